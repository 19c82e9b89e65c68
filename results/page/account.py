"""What a study cost, what failed in it, and where its numbers come from."""

import json
from collections import defaultdict
from statistics import fmean

from results.page.found import Found, Row, tally
from results.page.markup import count, details, esc, missing, paragraph, scroll, table
from results.render import Table, text
from results.schema import SCHEMA_VERSION

MOST_FAILED, MOST_CHARACTERS = 100, 2000


def failures(found: Found) -> str:
    """The reasons and how often each occurred, then each trial with its own."""
    failed = [row for row in found.trials if row["status"] == "failed"]
    if not failed:
        return missing("No trial has failed.")
    arm_of = {member["trial_key"]: member["arm"] for member in found.rows.members}
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in failed:
        reasons[_first_line(row)].append(arm_of[row["trial_key"]])
    lines = [
        (f"{reason[:300]}{'…' if len(reason) > 300 else ''}", len(arms), ", ".join(dict.fromkeys(arms)))
        for reason, arms in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    shown = []
    for row in failed[:MOST_FAILED]:
        error = str(row["error"] or "no reason noted")
        told = error[:MOST_CHARACTERS] + ("…" if len(error) > MOST_CHARACTERS else "")
        reached = f"after {count(row['epochs'] or 0, 'epoch')}"
        where = f"{arm_of[row['trial_key']]}, fold {row['fold']}, seed {row['seed']}, {reached}, {row['trial_key']}"
        shown.append(f'<li>{esc(where)}<pre tabindex="0">{esc(told)}</pre></li>\n')
    left = f"{len(failed) - MOST_FAILED} more are in the store." if len(failed) > MOST_FAILED else ""
    listed = f"<ul>\n{''.join(shown)}</ul>\n{paragraph(left) if left else ''}"
    return table(Table(("reason", "trials", "arms"), lines), "Reasons of failure") + details(
        f"Every failed trial ({len(failed)})", listed
    )


def cost(found: Found) -> str:
    """Hours by arm and device; of a search by method and device."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    if found.searches:
        for row in found.trials:
            groups[str(row["method"]), _kind(row)].append(row)
    else:
        for arm, keys in found.arms.items():
            for key in keys:
                if key in found.rows.trials:
                    groups[arm, _kind(found.rows.trials[key])].append(found.rows.trials[key])
    if not groups:
        return missing("No trial has ended, so nothing is spent yet.")
    lines = []
    for (name, device), rows in groups.items():
        spent = [row["seconds"] for row in rows if row["seconds"] is not None]
        speeds = [row["images_per_second"] for row in rows if row["images_per_second"] is not None]
        memory = [row["peak_memory_bytes"] for row in rows if row["peak_memory_bytes"] is not None]
        lines.append(
            (name, device, len(rows), sum(row["study"] != found.name for row in rows), f"{sum(spent) / 3600:.3f}",
             f"{fmean(spent):.1f}" if spent else "", f"{fmean(speeds):.0f}" if speeds else "",
             f"{max(memory) / 2**30:.2f}" if memory else "")
        )  # fmt: skip
    columns = (
        "method" if found.searches else "arm",
        "device",
        "trials",
        "reused",
        "hours",
        "seconds a trial",
        "images/s",
        "peak GiB",
    )
    totals = []
    for kind, name in (("cuda", "GPU-hours"), ("cpu", "CPU-hours"), ("", "hours on other devices")):
        some = [row for row in found.trials if _family(row) == kind]
        if some:
            ours = sum(row["seconds"] or 0 for row in some if row["study"] == found.name)
            others = sum(row["seconds"] or 0 for row in some if row["study"] != found.name)
            reused = (
                f", and {others / 3600:.3f} of earlier studies reused"
                if any(row["study"] != found.name for row in some)
                else ""
            )
            totals.append(f"{ours / 3600:.3f} {name} in {count(len(some), 'trial')}{reused}")
    note = (
        f"In all {'; '.join(totals)}. Hours are wall times of trials added up: trials that share a device count each in full, and a CPU "
        "counts as one however many threads it runs. Retries after a lost worker are not counted."
    )
    return table(Table(columns, lines), "What the trials cost") + paragraph(note)


def provenance(found: Found) -> str:
    """Code, data, versions and machines, each with the number of trials that it was true for."""
    study = found.rows.study
    facts: list[tuple[str, str]] = [("study", found.name), ("kind", str(study["kind"]))]
    if study["ablation"]:
        facts.append(("ablation", study["ablation"]))
    facts += [
        ("overrides", " ".join(study["overrides"] or ()) or "none"),
        ("planned at", text(study["created_at"])),
        ("planned by commit", _commit(study["git_commit"], None)),
        ("read by", f"results schema {SCHEMA_VERSION}"),
    ]
    started = [row["started_at"] for row in found.trials if row["started_at"]]
    ended = [row["ended_at"] for row in found.trials if row["ended_at"]]
    if started and ended:
        facts.append(("trials ran", f"{text(min(started))} to {text(max(ended))}"))
    audits = found.store.read("audits", ["trial_key", "protocol"], found.name).to_pylist()
    if audits:
        opened = ", ".join(f"{n} under protocol {protocol}" for protocol, n in tally(row["protocol"] for row in audits))
        facts.append(("test folds opened", opened))
    listed = "".join(f"<dt>{esc(name)}</dt><dd>{esc(value)}</dd>\n" for name, value in facts)
    head = f"<dl>\n{listed}</dl>\n"
    if not found.trials:
        return head + missing("No trial is in the store yet.")
    lines: list[tuple[str, str, int]] = []
    for name, values in {
        "commit": [_commit(row["git_commit"], row["git_dirty"]) for row in found.trials],
        "data": [f"{row['dataset']}, {row['data_fingerprint'] or 'no fingerprint'}" for row in found.trials],
        "split": [f"{row['folds']} folds, {row['fold_rule']}; protocol {row['protocol']}" for row in found.trials],
        "device": [
            f"{_kind(row)}; {row['threads'] or '?'} threads; host {row['host'] or 'unknown'}" for row in found.trials
        ],
        "versions": [_versions(row["versions"]) for row in found.trials],
        "numerics": [
            f"{row['method']} {row['numerics']}, source {row['source_hash'] or 'unknown'}" for row in found.trials
        ],
        "retrained": [count(row["retrained"], "time") for row in found.trials if row["retrained"]],
        "note of a method": [f"{row['method']}: {row['notes']}" for row in found.trials if row["notes"]],
    }.items():
        lines += [(name, value, n) for value, n in tally(values)]
    return (
        head
        + table(Table(("what", "value", "trials"), lines), "Where the numbers come from", sortable=False)
        + _configuration(study)
    )


def _configuration(study: Row) -> str:
    if not study["config"]:
        return ""
    try:
        config = json.dumps(json.loads(study["config"]), indent=1, sort_keys=True, ensure_ascii=False)
    except ValueError:
        config = str(study["config"])
    return details("The configuration of the study", scroll("Configuration", f"<pre>{esc(config)}</pre>"))


def _commit(commit: str | None, dirty: bool | None) -> str:
    return (
        "unknown: trained outside a checkout"
        if not commit
        else f"{commit}{', with changes that were not committed' if dirty else ''}"
    )


def _versions(given: str | None) -> str:
    try:
        found = json.loads(given or "{}")
        return ", ".join(f"{name} {version}" for name, version in sorted(found.items())) or "unknown"
    except (ValueError, AttributeError):
        return str(given)


def _kind(row: Row) -> str:
    return str(row["device"] or "unknown device")


def _family(row: Row) -> str:
    family = _kind(row).split(":")[0].split(" ")[0].lower()
    return family if family in ("cuda", "cpu") else ""


def _first_line(row: Row) -> str:
    return (str(row["error"] or "").strip().splitlines() or ["no reason noted"])[0]
