"""The simulator against a naive one, its conservation laws, and (slow) against a real search."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from results import Store
from study.errors import StudyError
from study.replay import Played, Recording, gaps, recorded
from study.run import main
from study.simulate import Machines, simulate
from study.stopping import Stopping
from study.sweep import Schedule, Setup, cheapest, replay
from study.units import duration, rate, spoken
from study.whatif import parse

EPOCHS = 6


def played(i, rng, epochs=EPOCHS):
    values, seconds = rng.random(epochs).round(2).tolist(), rng.integers(1, 9, epochs).astype(float).tolist()
    return Played(
        f"key-{i}", f"method-{i % 2}", "done", epochs, values, seconds, float(rng.integers(3)), 1.0, values[-1]
    )


def trials_of(count, seed=0):
    rng = np.random.default_rng(seed)
    return [played(i, rng) for i in range(count)]


def no_extension(trial):
    raise AssertionError(f"{trial.key} is complete")


def naive(trials, machines, stopping, rng):
    """The same without a heap, slots in a list, and ASHA by numpy: (wall, used, decisions, events of reclaims included)."""
    slots = [{"machine": s % machines.gpus} for s in range(machines.gpus * machines.packing)]
    slowdown = machines.packing if machines.slowdown is None else machines.slowdown
    waiting, saved, rungs, decisions, order = list(range(len(trials))), {}, {}, [], 0
    now = used = 0.0
    up = [0.0] * machines.gpus
    started = [False] * machines.gpus
    others = []  # (time, order, kind, machine)

    def load(machine):
        return sum(slot["machine"] == machine and "trial" in slot for slot in slots)

    def pace(machine):
        more = (slowdown - 1) / (machines.packing - 1) * (load(machine) - 1) if machines.packing > 1 else 0
        return (1 + more) / machines.speed

    def foresee(slot, begin):
        nonlocal order
        trial, epoch = trials[slot["trial"]], slot["epoch"]
        taken = trial.seconds[epoch] + (trial.evaluation if epoch + 1 == trial.epochs else 0)
        order += 1
        slot["next"] = (begin + taken * pace(slot["machine"]), order)

    def assign():
        for slot in slots:
            if waiting and "trial" not in slot and up[slot["machine"]] is not None:
                i = waiting.pop(0)
                if not started[slot["machine"]]:
                    started[slot["machine"]], up[slot["machine"]] = True, now + machines.startup
                slot |= {"trial": i, "epoch": saved.get(i, 0), "since": now}
                begin = max(now, up[slot["machine"]]) + (machines.gap if slot.get("warm") else machines.first)
                slot["warm"] = True
                decisions.append((begin, i, "start", saved.get(i, 0)))
                foresee(slot, begin + trials[i].setup * pace(slot["machine"]))

    def leave(slot):
        nonlocal used
        used += (now - slot["since"]) / machines.packing
        return slot.pop("trial")

    def foresee_reclaim():
        nonlocal order
        order += 1
        others.append((now + rng.exponential(3600 / (machines.reclaims * machines.gpus)), order, "reclaim", None))

    left = len(trials)
    assign()
    if machines.reclaims:
        foresee_reclaim()
    while left:
        running = [slot for slot in slots if "trial" in slot]
        soon = min((slot["next"] for slot in running), default=(math.inf, 0))
        if others and min(others)[:2] < soon:
            now, _, kind, machine = others.pop(others.index(min(others)))
            if kind == "back":
                up[machine] = now
                assign()
                continue
            machine = int(rng.integers(machines.gpus))
            if load(machine):
                up[machine] = None
                for slot in slots:
                    if slot["machine"] == machine:
                        slot.pop("warm", None)
                        if "trial" in slot:
                            every = machines.checkpoint
                            kept = slot["epoch"] // every * every if every else 0
                            i = leave(slot)
                            saved[i] = kept
                            waiting.append(i)
                            waiting.sort()
                            decisions.append((now, i, "lost", kept))
                order += 1
                others.append((now + machines.startup, order, "back", machine))
                assign()
            foresee_reclaim()
            continue
        slot = next(slot for slot in running if slot["next"] == soon)
        now = soon[0]
        i, slot["epoch"] = slot["trial"], slot["epoch"] + 1
        trial, epoch, what = trials[i], slot["epoch"], None
        if epoch == trial.epochs:
            what = trial.status
        elif stopping and epoch in stopping.milestones:
            values = rungs.setdefault(epoch, {})
            if i not in values:
                value = trial.values[epoch - 1]
                if values and value < np.percentile(list(values.values()), 100 * (1 - 1 / stopping.reduction)):
                    what = "asha"
                values[i] = value
        if what:
            leave(slot)
            decisions.append((now, i, what, epoch))
            left -= 1
            assign()
        else:
            foresee(slot, now)
    return now, used, decisions


@pytest.mark.parametrize("seed", range(40))
def test_it_decides_as_a_naive_simulation_does(seed):
    rng = np.random.default_rng(seed)
    trials = trials_of(int(rng.integers(1, 14)), seed)
    machines = Machines(
        gpus=int(rng.integers(1, 4)),
        packing=int(rng.integers(1, 4)),
        slowdown=[None, 1.0, 1.5][seed % 3],
        reclaims=float(rng.choice([0, 20, 90])),
        startup=float(rng.integers(4)),
        idle=math.inf,
        first=float(rng.integers(5)),
        gap=float(rng.integers(2)),
        checkpoint=int(rng.integers(4)),
    )
    rules = Stopping(EPOCHS, 1, 2) if seed % 2 else None
    found = simulate(trials, machines, rules, no_extension, np.random.default_rng(seed), log=True)
    wall, used, decisions = naive(trials, machines, rules, np.random.default_rng(seed))
    assert [tuple(decision) for decision in found.decisions] == decisions
    assert found.wall == wall
    assert found.used == pytest.approx(used)
    assert sum(found.ended.values()) == len(trials)


def test_one_worker_takes_the_sum():
    trials = trials_of(5)
    found = simulate(trials, Machines(first=7, gap=2), None, no_extension, np.random.default_rng(0))
    work = sum(trial.setup + sum(trial.seconds) + trial.evaluation for trial in trials)
    assert found.wall == found.used == found.billed == work + 7 + 4 * 2
    assert found.epochs == 5 * EPOCHS
    assert found.lost == 0


@pytest.mark.parametrize("checkpoint", [0, 1, 2])
def test_gpu_seconds_are_conserved(checkpoint):
    """What was used is what undisturbed trials take, and what reclaims lost: epochs since a checkpoint, and starting again."""
    trials = trials_of(30)
    machines = Machines(gpus=3, packing=2, slowdown=1, reclaims=60, checkpoint=checkpoint, idle=5)
    found = simulate(trials, machines, None, no_extension, np.random.default_rng(1), log=True)
    again, begun = 0.0, {}
    for _, i, what, epoch in found.decisions:
        if what == "start":
            begun[i] = epoch
        elif begun[i] and not (what == "lost" and epoch == begun[i]):
            again += trials[i].setup
    work = sum(trial.setup + sum(trial.seconds) + trial.evaluation for trial in trials)
    assert found.reclaimed > 3
    # An attempt that came to no checkpoint is lost with its set-up; of one that resumed and came to one it is on top.
    assert found.used == pytest.approx((work + again) / 2 + found.lost)
    assert found.used <= found.billed <= 3 * found.wall


def test_idle_machines_are_let_go_and_never_more_are_held_than_there_are_trials():
    long, short = (
        Played(name, "m", "done", 1, [0.5], [seconds], 0.0, 0.0, 0.5) for name, seconds in (("a", 100.0), ("b", 10.0))
    )
    found = simulate([long, short], Machines(gpus=9, idle=20), None, no_extension, np.random.default_rng(0))
    assert found.billed == 100 + (10 + 20)


def test_sharing_a_gpu_slows_by_as_much_as_is_said():
    one = Played("a", "m", "done", 1, [0.5], [12.0], 0.0, 0.0, 0.5)
    walls = [
        simulate([one] * 3, Machines(packing=3, slowdown=slow), None, no_extension, np.random.default_rng(0)).wall
        for slow in (1, 1.5, None)
    ]
    # All three begin at once, the first before the others came: its epoch is not slowed.
    assert walls == [12, 18, 36]


def recording_of(trials, **others):
    row = {"study": "s", "metric": "val_accuracy", "config": "{}"}
    return Recording("s", row, "val_accuracy", trials, 0, 0.0, 0.0, 1, ["cpu"], math.nan, **others)


def test_a_cut_curve_goes_on_as_a_like_completed_one_did():
    complete = Played("a", "m", "done", 3, [0.1, 0.4, 0.6], [1.0] * 3, 0.0, 5.0, 0.6)
    other = complete._replace(key="o", method="n", values=[0.2, 0.2, 0.2])
    cut = Played("b", "m", "stopped", 3, [0.3], [2.0], 0.0, 0.0, None)
    recording = recording_of([complete, other, cut])
    values, seconds = recording.extended(cut, np.random.default_rng(0))
    assert values == pytest.approx([0.3, 0.6, 0.8])
    assert seconds == [2.0, 2.0, 2.0]
    assert recording.evaluation("m") == 5
    # Beyond 1 no accuracy goes; a method without a completed trial takes those of all.
    values, _ = recording.extended(cut._replace(values=[0.9], method="none"), np.random.default_rng(3))
    assert max(values) <= 1
    with pytest.raises(StudyError, match="No trial of s was completed"):
        recording_of([cut]).extended(cut, np.random.default_rng(0))


def test_extensions_can_be_refused_and_a_goal_has_its_cheapest_setup():
    complete = Played("a", "m", "done", 4, [0.1, 0.4, 0.6, 0.7], [1.0] * 4, 0.0, 0.0, 0.7)
    cut = Played("b", "m", "stopped", 4, [0.3], [2.0], 0.0, 0.0, None)
    recording = recording_of([complete, cut] * 4)
    none = Schedule("none", 1, 3, 1)
    with pytest.raises(StudyError, match="Under none 1 trials of s would go on"):
        replay(recording, Setup(Machines(), none, None), 8, 2, 0, 0.6, extend=False)
    found = [replay(recording, Setup(Machines(gpus=gpus), none, 1.0), 8, 5, 0, 0.6, extend=True) for gpus in (1, 4)]
    assert [len(one.draws) for one in found] == [5, 5]
    assert cheapest(found).setup.machines.gpus == 1
    assert cheapest([replay(recording, Setup(Machines(), none, 1.0), 8, 5, 0, 0.99, extend=True)]) is None


def test_gaps_are_those_of_a_worker():
    """Two workers; the second trial of the first begins 2 s after its first one's end, a pause of an hour is none."""
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def span(begin, end):
        return "host", start + timedelta(seconds=begin), start + timedelta(seconds=end)

    spans = [span(0, 10), span(1, 21), span(12, 30), span(22, 40), span(42, 50), span(3700, 3710)]
    assert gaps(spans) == (pytest.approx((2 + 1 + 2) / 3), 2)


def test_settings_are_checked_together():
    with pytest.raises(StudyError) as error:
        parse(["sudy=small", "gpus=0", "goal=[0.1,0.2]", "spot=often", "scheduler=asah", "packing"])
    assert str(error.value).splitlines() == [
        "There is no setting sudy of --simulate. Did you mean study or seed?",
        "Expected gpus to be at least 1, found 0.",
        "Expected one value of goal, found [0.1,0.2]: only gpus, packing, scheduler, grace, reduction, brackets, spot, checkpoint, "
        "price can be listed.",
        "Expected spot to be a rate such as 0.05/h or 1/d, found 'often'.",
        "Expected scheduler to be none or asha, found 'asah'. Did you mean asha?",
        "Expected settings of the form KEY=VALUE, found 'packing'.",
    ]
    with pytest.raises(StudyError, match="Expected study=NAME"):
        parse(["gpus=8"])


def test_durations_and_rates():
    assert [duration(text, "x") for text in ("90", "3min", "8h", "2d")] == [90, 180, 28800, 172800]
    assert [rate(text, "x") for text in ("0.05/h", "0.05", "12/d")] == [0.05, 0.05, 0.5]
    assert [spoken(one) for one in (4.2, 42, 200, 3599.9, 18420, 183600)] == [
        "4.2 s",
        "42 s",
        "3 min 20 s",
        "1 h",
        "5 h 7 min",
        "2 d 3 h",
    ]


@pytest.mark.slow
def test_a_real_search_and_its_replay_decide_alike(project, capsys):
    """40 trials, one worker: every start, stop and end in the same order at the same epoch, and the wall-clock within 10 %."""
    tiny = ["dataset.subjects=8", "dataset.per_class=2", "image_size=16", "epochs=4", "folds=2", *project.places]
    # Half of the people validate: of few images many trials would have the same accuracy, and none be below a rung.
    tiny += ["protocol.validation_fraction=0.5", "search.grace=1", "cluster.workers=1"]
    project.run("--search", "study=real", "search.trials=40", *tiny)
    recording = recorded(Store(project.tables), "real")
    search = recording.config["search"]
    rules = Stopping(4, search["grace"], search["reduction"], search.get("brackets", 1))
    machines = Machines(gpus=recording.slots, first=recording.first, gap=recording.gap)
    found = simulate(recording.trials, machines, rules, no_extension, np.random.default_rng(0), log=True)
    place = {trial.key: i for i, trial in enumerate(recording.trials)}
    real = []
    for row in project.read("trials"):
        i = place[row["trial_key"]]
        real += [
            (row["started_at"], i, "start", 0),
            (row["ended_at"], i, row["stopped_by"] or row["status"], row["epochs"]),
        ]
    assert [decision[1:] for decision in sorted(real)] == [tuple(decision)[1:] for decision in found.decisions]
    assert found.ended["asha"] > 5
    assert found.wall == pytest.approx(recording.wall, rel=0.1)
    assert (
        main(
            [
                "--simulate",
                "study=real",
                f"storage.root={project.tables}",
                "gpus=[1,8]",
                "goal=0.1",
                "price=2",
                "draws=5",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "The cheapest that reaches 0.1: gpus=" in said
    assert "Best val_accuracy of a completed trial so far" in said


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main(["--simulate", "study=none", f"storage.root={tmp_path}"]) == 2
    assert capsys.readouterr().err == f"There is no study none under {tmp_path}.\n"
    assert main(["--simulate", "study=none", "--dry-run"]) == 2
    assert "leave out --dry-run" in capsys.readouterr().err
