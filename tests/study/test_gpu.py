"""What a real GPU alone can show; skipped where there is none."""

from dataclasses import replace

import pytest
import torch

from study import packing, plan
from study.faces import Faces
from study.trial import Trial, use_device
from study.worker import Worker
from tests.study import working

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def study(tiny_config, torch_settings):
    config = tiny_config("method=softmax")
    return config, working.spec_of(config, search="s")


def test_what_a_trial_takes_is_measured_and_it_trains_within_that(study):
    config, spec = study
    device = use_device(1, cuda=True)
    trial = Trial(spec, Faces(plan.open_faces(config), device), working.CODE, lambda row: None)
    measured = packing.measure(trial, device)
    assert 0 < measured.peak < measured.memory
    assert 0 < measured.context < measured.memory
    assert 0 < measured.share(measured.memory, packing.MOST) <= 1
    del trial
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    again = Trial(spec, Faces(plan.open_faces(config), device), working.CODE, lambda row: None)
    for _ in again.run():
        pass
    assert torch.cuda.max_memory_reserved(device) <= packing.SAFETY * measured.peak


def test_a_fence_refuses_what_is_beyond_it_and_that_is_told_from_other_errors():
    memory = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(packing.fence(packing.part(8), memory))
    try:
        with pytest.raises(torch.OutOfMemoryError) as error:
            torch.empty(memory // 4, dtype=torch.uint8, device="cuda")
        assert packing.is_full(error.value)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_trials_of_one_worker_hand_the_memory_back(study, tmp_path):
    config, spec = study
    worker, held = Worker.__new__(Worker), []
    worker.setup(working.asked(spec, share=1.0), working.context(config, tmp_path))
    for seed in range(30):
        changes = {"learning_rate": 1e30} if seed % 10 == 9 else {}
        worker.reset_config(working.asked(replace(spec, seed=seed, **changes), share=1.0))
        row = working.results(worker)[-1]["row"]
        assert row["status"] == ("failed" if changes else "done")
        assert row["device"].startswith("cuda: ")
        worker._release()
        held.append(torch.cuda.memory_reserved())
    assert max(held[2:]) <= held[1]
