"""A search without Ray: what Tune and the store would do is done here, with a metric computed from the proposal."""

import json
import random

from ray.tune.search import Searcher

from study import plan
from study.search import Answer, Past, StudySearch
from study.space import Space
from study.spec import TrialSpec


class Tables:
    """What a store would hold of a search: its members, and the answers of its trainings."""

    def __init__(self):
        self.members, self.answers, self.trained, self.saved = {}, {}, [], []

    def proposed(self, member, parameters):
        self.members.setdefault(member.index, {})[member.spec.key] = (json.dumps(parameters), member.spec)

    def dropped(self, member):
        assert member.spec.key not in self.answers, "the store keeps what is done"
        self.saved.append(member)
        self.answers[member.spec.key] = Answer("stopped", [])

    def past(self):
        found = []
        for index, rows in sorted(self.members.items()):
            specs = sorted((spec for _, spec in rows.values()), key=lambda spec: (spec.seed, spec.fold))
            ended = []
            for spec in specs:
                if spec.key not in self.answers:
                    break
                ended.append(self.answers[spec.key])
            found.append(Past(index, json.loads(next(iter(rows.values()))[0]), ended))
        return found

    def proposals(self):
        """By number, what was proposed and trained of it."""
        return {index: {key: row[0] for key, row in rows.items()} for index, rows in sorted(self.members.items())}


def searcher(config, tables, trials, warm=()):
    past = tables.past()
    indices = sorted(set(range(trials)) - {trial.index for trial in past})
    shared = plan.shared_fields(config, plan.open_faces(config), "s")
    found = tables.proposed, tables.dropped, warm
    return StudySearch(Space(config), shared, config["search"], indices, past, tables.answers, *found)


def objective(spec):
    """The higher the nearer the learning rate is to 0.001; folds and seeds differ, arms by them a little."""
    noise = random.Random(f"{spec.method}{spec.learning_rate}{spec.fold}{spec.seed}").gauss(0, 0.01)
    return 1 / (1 + abs(spec.learning_rate - 0.001) * 1000) + 0.1 * (spec.method == "triplet") - 0.1 * spec.fold + noise


def answered(spec):
    """What its training gives: of ten six are done, two stopped after the first epoch, one is NaN and one fails."""
    fate, value = int(spec.key, 16) % 10, objective(spec)
    if fate == 9:
        return Answer("failed", [], None, 100)
    if fate == 8:
        return Answer("done", [(1, value), (2, float("nan"))], 1.0, 100)
    if fate in (6, 7):
        return Answer("stopped", [(1, value - 0.2)], None, 100)
    return Answer("done", [(1, value - 0.1), (2, value)], 10 * spec.learning_rate, 100)


def complete(spec):
    """What its training gives where none fails."""
    return Answer("done", [(1, objective(spec) - 0.1), (2, objective(spec))], 10 * spec.learning_rate, 100)


def flat(answer, epoch, value):
    """A result as Tune hands it on; the last one, and that on which a scheduler stops, goes to on_trial_complete alone."""
    row = {"row/status": answer.status, "row/validation_images": answer.images, "row/seconds": answer.cost}
    return row | {"record/epoch": epoch, "metric": value, "training_iteration": 77}


def end(search, name, answer):
    for epoch, value in answer.curve[:-1]:
        search.on_trial_result(name, flat(answer, epoch, value))
    epoch, value = answer.curve[-1] if answer.curve else (None, None)
    result = flat(answer, epoch, value) if epoch else {"row/status": answer.status}
    search.on_trial_complete(name, result)


def play(config, tables, trials, workers=1, kill_after=None, seed=0, answer=answered, warm=()):
    """Run a search to its end, or until the driver is killed after so many trainings; the search."""
    search, rng, running, count = searcher(config, tables, trials, warm), random.Random(seed), {}, 0
    while count != kill_after:
        asked = None
        while len(running) < workers:
            name = f"trial-{len(tables.trained)}"
            asked = search.suggest(name)
            if asked is None or asked == Searcher.FINISHED:
                break
            running[name] = TrialSpec.parse(asked["trial"]["spec"])
            tables.trained.append(running[name].key)
        if not running:
            assert asked == Searcher.FINISHED
            assert search.left == 0
            break
        name = rng.choice(sorted(running))
        spec = running.pop(name)
        found = answer(spec)
        tables.answers[spec.key] = found._replace(first=(spec.fold, spec.seed) == (0, 0))
        end(search, name, found)
        count += 1
    return search
