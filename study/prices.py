"""What machines cost: study/conf/cluster/prices.csv."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from study.config import CONF, nearest
from study.errors import StudyError

FILE = CONF / "cluster" / "prices.csv"


@dataclass(frozen=True)
class Price:
    """A machine's price.

    Args:
        instance: its type.
        gpus: that it has; a machine without one is counted in workers.
        vcpus: that it has.
        on_demand: USD an hour.
        spot: USD an hour, None where the table has none.
        region: where.
        as_of: when.

    """

    instance: str
    gpus: int
    vcpus: int
    on_demand: float
    spot: float | None
    region: str
    as_of: str

    def per_unit(self, spot: bool, cpus_per_trial: int) -> float:
        """USD for an hour of one GPU, or, on a machine without GPU, of one worker of so many CPUs.

        Raises:
            StudyError: where no spot price is known.

        """
        price = self.spot if spot else self.on_demand
        if price is None:
            raise StudyError(f"{FILE.name} has no spot price of {self.instance}: give one in price=USD.")
        return price / (self.gpus or max(self.vcpus // cpus_per_trial, 1))


def price_of(instance: str, region: str | None) -> Price:
    """The price of an instance type, in the first region of the table that has it unless one is named.

    Raises:
        StudyError: where the table has none.

    """
    with FILE.open(newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    found = [row for row in rows if row["instance_type"] == instance and region in (None, row["region"])]
    if not found:
        known = sorted({row["instance_type"] for row in rows if region in (None, row["region"])})
        where = f" in {region}" if region else ""
        raise StudyError(
            f"Expected an instance type of {FILE.name}{where}, {', '.join(known) or 'which has none there'}, found "
            f"{instance!r}.{nearest(instance, known)}"
        )
    row = found[0]
    spot = row["spot_usd_per_hour"]
    return Price(
        instance, int(row["gpus"]), int(row["vcpus"]), float(row["on_demand_usd_per_hour"]),
        float(spot) if spot else None, row["region"], row["as_of"],
    )  # fmt: skip
