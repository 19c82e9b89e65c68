"""Tune's register is asked once for what is in it, and again for what was not."""

from ray.tune import registry

from study.remembering import remembering


def test_what_was_found_is_remembered_and_what_was_not_is_asked_for_again(monkeypatch):
    known, asked = registry._Registry(), []
    monkeypatch.setattr(registry, "_global_registry", known)
    monkeypatch.setattr(registry, "_internal_kv_initialized", lambda: asked.append(1) and False)
    with remembering():
        assert not known.contains("test", "worker")
        known._to_flush["test", "worker"] = registry.pickle.dumps(["a class"])
        assert known.contains("test", "worker")
        assert known.get("test", "worker") is known.get("test", "worker")
        so_far = len(asked)
        assert known.contains("test", "worker")
        assert known.get("test", "worker") == ["a class"]
        assert len(asked) == so_far
    assert known.get("test", "worker") is not known.get("test", "worker")
