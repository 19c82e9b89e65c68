"""Models in folders: what is written is what is read, and nothing else is."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes

from mdml import MethodError
from mdml.exported import DESCRIPTION, TENSORS, load
from mdml.methods import method_names
from mdml.models import BACKBONES
from tests.mdml import tiny_model, toy

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setitem(BACKBONES, "small", tiny_model.SMALL)


@pytest.fixture
def model(tmp_path):
    tiny_model.write(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def neighbours(tmp_path):
    tiny_model.write(tmp_path / "model", "sgm")
    return tmp_path / "model"


@pytest.mark.parametrize("name", method_names())
def test_every_method_predicts_after_reading_as_before_writing(tmp_path, name):
    expected = tiny_model.write(tmp_path / "deep" / "model", name)
    read = load(tmp_path / "deep" / "model")
    found = read.probabilities(toy.images()[tiny_model.TEST])
    assert torch.equal(found, expected)
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))
    assert (read.memory is None) == (read.method.prediction == "classifier")
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["model"], "something was left aside"
    assert sorted(file.name for file in (tmp_path / "deep" / "model").iterdir()) == [DESCRIPTION, TENSORS]


def test_the_same_model_is_the_same_bytes(tmp_path):
    for folder in ("one", "two"):
        tiny_model.write(tmp_path / folder, "sgm")
    for name in (DESCRIPTION, TENSORS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_reading_leaves_the_random_numbers_alone(model):
    before = torch.get_rng_state()
    load(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_nothing_is_written_over(model):
    with pytest.raises(MethodError, match="at most an empty folder"):
        tiny_model.write(model)


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "model").mkdir()
    tiny_model.write(tmp_path / "model")
    load(tmp_path / "model")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(MethodError, match=r"can be written to, found .*file/model"):
        tiny_model.write(tmp_path / "file" / "model")


DEEP = "[" * 100_000
DESCRIPTIONS = {
    "not an object": ("[]", "Expected an object"),
    "not JSON": ("{", "Expected JSON"),
    "not UTF-8": (b"\xff\xfe", "Expected JSON"),
    "too deep": (DEEP, "Expected JSON"),
    "a number too long": ('{"format": ' + "9" * 5000 + "}", "Expected JSON"),
    "no number": ('{"format": NaN}', "NaN is no number"),
    "a name twice": ('{"format": 1, "format": 2}', "stands twice"),
    "too long": (" " * (1 << 21), "at most 1048576 bytes"),
}


@pytest.mark.parametrize("case", DESCRIPTIONS)
def test_a_description_that_is_none_is_refused(model, case):
    text, words = DESCRIPTIONS[case]
    (model / DESCRIPTION).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(MethodError, match=words):
        load(model)


ENTRIES = {
    "another format": ({"format": "mdml-model-2"}, "format to be 'mdml-model-1', found 'mdml-model-2'"),
    "one too many": ({"run": "rm"}, "found \\['run'\\]"),
    "unknown method": ({"method": "softmacks"}, "found 'softmacks'"),
    "a method out of the package": ({"method": "base"}, "found 'base'"),
    "a path for a method": ({"method": "../../os"}, "Expected a method"),
    "a method of many letters": ({"method": "m" * 5000}, "method of at most 1000 letters"),
    "a list for a method": ({"method": ["softmax"]}, "method to be text"),
    "unknown option": ({"options": {"exec": 1}}, "no option 'exec'"),
    "an option of the wrong type": ({"options": {"slice_dim": "wide"}}, "must be an integer"),
    "an option that is an object": ({"options": {"slice_dim": {}}}, "plain values"),
    "an option out of range": ({"options": {"slice_dim": 0}}, "at least 1, found 0"),
    "another width": ({"options": {"slice_dim": 8}}, r"Expected network.head.embed.weight .*\(8, 72\).*\(256, 72\)"),
    "a huge width": ({"options": {"slice_dim": 10**12}}, "within 100000, found 1000000000000"),
    "an infinite width": ({"options": {"slice_dim": float("1e400")}}, "no number of JSON"),
    "a width as large as may be": ({"options": {"slice_dim": 100_000}}, r"\(100000, 72\)"),
    "many wide slices": (
        {"method": "mul_dml", "options": {"slices": 100_000, "slice_dim": 100_000}},
        r"\(10000000000, 72\)",
    ),
    "many thresholds": (
        {"method": "mul_dml", "options": {"thresholds": [0.1] * 20_000}},
        "at most 10000 numbers in options.thresholds",
    ),
    "another method": ({"method": "sgm", "options": {}}, "network.head.embed.weight"),
    "unknown backbone": ({"backbone": "resnet19"}, "resnet19"),
    "another backbone": ({"backbone": "resnet18"}, "network.head.embed.weight"),
    "unknown augmentation": ({"augmentation": "heavy"}, "heavy"),
    "a huge image": ({"image_size": 10**9}, "image_size to be 8 to 1024, found 1000000000"),
    "a yes for a size": ({"image_size": True}, "image_size to be an integer, found True"),
    "another size": ({"image_size": 17}, "exactly 16"),
    "channels": ({"channels": 2}, "channels=2"),
    "other channels": ({"channels": 3}, r"\(8, 3, 5, 5\)"),
    "fewer classes": ({"classes": ["happy", "sad"]}, r"\(2, 256\)"),
    "too many classes": ({"classes": [str(i) for i in range(2000)]}, "2 to 1000 classes, found 2000"),
    "equal classes": ({"classes": ["happy", "happy", "sad"]}, "names of their own"),
    "a number for a class": ({"classes": ["happy", 1, "sad"]}, "to be text, found 1"),
    "aligned": ({"aligned": 1}, "aligned to be true or false, found 1"),
    "numerics": ({"numerics": "new"}, "LOOP.METHOD, found 'new'"),
    "a digest": ({"tensors_sha256": "0"}, "64 hexadecimal digits"),
    "another digest": ({"tensors_sha256": "0" * 64}, "cut short or changed"),
    "origin": ({"origin": "here"}, "origin to be an object"),
}


@pytest.mark.parametrize("case", ENTRIES)
def test_an_entry_that_no_model_has_is_refused_at_once(model, case):
    entries, words = ENTRIES[case]
    tiny_model.change(model, **entries)
    start = time.perf_counter()
    with pytest.raises(MethodError, match=words) as caught:
        load(model)
    assert time.perf_counter() - start < 20
    assert str(model) in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_an_entry_that_is_missing_is_named(model):
    found = json.loads((model / DESCRIPTION).read_text())
    del found["classes"]
    (model / DESCRIPTION).write_text(json.dumps(found))
    with pytest.raises(MethodError, match="found none called classes"):
        load(model)


@pytest.mark.parametrize("name", [DESCRIPTION, TENSORS])
def test_a_missing_file_is_named(model, name):
    (model / name).unlink()
    with pytest.raises(MethodError, match=name):
        load(model)


def test_a_pipe_is_not_waited_for(model):
    (model / TENSORS).unlink()
    os.mkfifo(model / TENSORS)
    with pytest.raises(MethodError, match=TENSORS):
        load(model)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_tensors_cut_short_are_refused(model, share):
    data = (model / TENSORS).read_bytes()
    (model / TENSORS).write_bytes(data[: int(share * len(data))])
    with pytest.raises(MethodError, match="cut short or changed"):
        load(model)
    tiny_model.put(model, data[: int(share * len(data))])
    with pytest.raises(MethodError, match="safetensors format"):
        load(model)


def test_a_changed_bit_is_refused(model):
    data = bytearray((model / TENSORS).read_bytes())
    data[-100] ^= 1
    (model / TENSORS).write_bytes(data)
    with pytest.raises(MethodError, match="cut short or changed"):
        load(model)


HEADERS = {
    "a header longer than the file": (2**60).to_bytes(8, "little") + b"{}",
    "no JSON in the header": (3).to_bytes(8, "little") + b"{{{",
    "a tensor beyond the file": (lambda text: len(text).to_bytes(8, "little") + text)(
        b'{"network.trunk.0.weight":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
    ),
    "a shape that wraps around": (lambda text: len(text).to_bytes(8, "little") + text)(
        b'{"network.trunk.0.weight":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'
    ),
    "an unknown type": (lambda text: len(text).to_bytes(8, "little") + text)(
        b'{"network.trunk.0.weight":{"dtype":"OBJECT","shape":[1],"data_offsets":[0,4]}}'
    )
    + b"1234",
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_lies_is_refused(model, case):
    tiny_model.put(model, HEADERS[case])
    with pytest.raises(MethodError, match="safetensors format"):
        load(model)


def _spoilt(name, spoil):
    def change(tensors):
        tensors[name] = spoil(tensors[name])

    return change


TENSOR_CASES = {
    "a missing one": (lambda tensors: tensors.pop("network.trunk.0.bias"), "network.trunk.0.bias"),
    "one too many": (lambda tensors: tensors.update(extra=torch.ones(1)), "beside those of the model, found 'extra'"),
    "another shape": (_spoilt("network.trunk.0.bias", lambda t: t[:4]), r"\(8,\), found torch.float32 \(4,\)"),
    "another type": (_spoilt("network.trunk.0.bias", lambda t: t.double()), "torch.float64"),
    "no number": (_spoilt("network.trunk.0.bias", lambda t: t * torch.nan), "finite numbers in network.trunk.0.bias"),
}
MEMORY_CASES = {
    "no labels": (lambda tensors: tensors.pop("memory.labels"), "memory.labels"),
    "no images": (
        lambda tensors: tensors.update({name: tensors[name][:0] for name in tensors if name.startswith("memory")}),
        "at least one image",
    ),
    "fewer labels": (_spoilt("memory.labels", lambda t: t[:3]), r"memory.embedding to be torch.float32 \(3, 64\)"),
    "labels out of range": (_spoilt("memory.labels", lambda t: t + 1), "labels 0 to 2"),
    "negative labels": (_spoilt("memory.labels", lambda t: t - 1), "labels 0 to 2"),
    "labels of a table": (_spoilt("memory.labels", lambda t: t[:, None]), "memory.labels to be"),
    "another width": (_spoilt("memory.embedding", lambda t: t[:, :9]), r"\(14, 64\), found torch.float32 \(14, 9\)"),
    "infinite": (_spoilt("memory.embedding", lambda t: t / 0), "finite numbers in memory.embedding"),
}


def _refused(folder, change, words):
    tensors = read_tensors((folder / TENSORS).read_bytes())
    change(tensors)
    tiny_model.put(folder, tensor_bytes({name: tensor.contiguous() for name, tensor in tensors.items()}))
    with pytest.raises(MethodError, match=words):
        load(folder)


@pytest.mark.parametrize("case", TENSOR_CASES)
def test_tensors_of_another_model_are_refused(model, case):
    _refused(model, *TENSOR_CASES[case])


@pytest.mark.parametrize("case", MEMORY_CASES)
def test_a_memory_that_does_not_fit_is_refused(neighbours, case):
    _refused(neighbours, *MEMORY_CASES[case])


_WATCHED = """
import pickle, sys
sys.path.insert(0, {root!r})
import torch
import mdml.predict
from tests.mdml import tiny_model
tiny_model.register()

def refuse(*arguments, **options):
    raise SystemExit("a pickle was opened")

def watch(event, arguments):
    if event in ("pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.fork", "socket.connect"):
        raise SystemExit(f"{{event}} {{arguments}}")

sys.addaudithook(watch)
pickle.load = pickle.loads = pickle.Unpickler = torch.load = refuse
face, *models = sys.argv[1:]
print([mdml.predict.main(["--model", model, face]) for model in models])
"""


class _Bomb:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_no_pickle_is_opened(tmp_path):
    """A hook ends the process at any unpickling, of good models as of those whose files a pickle has replaced."""
    face, mark = tmp_path / "face.png", tmp_path / "mark"
    Image.new("L", (20, 20), 90).save(face)
    torch.save({"network.trunk.0.bias": torch.ones(8), "bomb": _Bomb(mark)}, tmp_path / "saved.pt")
    models = [tmp_path / name for name in ("classifier", "neighbours", "pickled", "saved", "described")]
    for folder, method in zip(models, ("mul_dml", "sgm", "softmax", "softmax", "softmax"), strict=True):
        tiny_model.write(folder, method)
    tiny_model.put(models[2], pickle.dumps(_Bomb(mark)))
    tiny_model.put(models[3], (tmp_path / "saved.pt").read_bytes())
    (models[4] / DESCRIPTION).write_bytes(pickle.dumps(_Bomb(mark)))
    command = [sys.executable, "-c", _WATCHED.format(root=str(ROOT)), str(face), *map(str, models)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[0, 0, 2, 2, 2]"
    said = done.stderr.splitlines()
    assert ["safetensors format" in line for line in said] == [True, True, False]
    assert not mark.exists()
    with pytest.raises(pickle.UnpicklingError):  # What is refused above is a pickle that torch.load would have met.
        torch.load(tmp_path / "saved.pt", weights_only=True)
