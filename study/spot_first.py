"""Machines of AWS: from spot, and at the full price where it has none to spare.

    python -m study.spot_first       on the head, before Ray starts: writes ~/autoscaler.yaml, which names this provider

Ray's autoscaler asks for the same spot machines again and again where AWS refuses them, although another type of node would do. Its
settings know of no way around that; a provider of one's own, which it calls external, is one.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import yaml
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

MARKET = "InstanceMarketOptions"
# What EC2 says where there is no spot machine of a type, or not at that price, or no more of them for this account. Ray tries one zone
# after the other and tells the last one's words alone, which are Unsupported where that one has no such type at all.
SCARCE = frozenset(
    {
        "InsufficientInstanceCapacity",
        "MaxSpotInstanceCountExceeded",
        "SpotMaxPriceTooLow",
        "UnfulfillableCapacity",
        "Unsupported",
    }
)
# `ray up` puts it on the head.
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
OWN = Path("~/autoscaler.yaml")
logger = logging.getLogger(__name__)


class SpotFirst(AWSNodeProvider):
    """AWS's provider, which rents on demand as many machines as were asked for from spot and are not to be had there."""

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Rent machines; by their ids."""
        try:
            made = super().create_node(node_config, tags, count)
        except NodeLaunchException as error:
            if MARKET not in node_config or error.category not in SCARCE:
                raise
            made = {}
        lacking = count - len(made)
        if lacking and MARKET in node_config:
            logger.warning(
                "AWS has %d of %d spot machines to spare: the others are rented on demand.", len(made), count
            )
            on_demand = {key: value for key, value in node_config.items() if key != MARKET}
            made |= super().create_node(on_demand, tags, lacking)
        return made


def main() -> None:
    """Write down for the autoscaler what `ray up` brought, with this provider in the place of AWS's."""
    config = yaml.safe_load(BOOTSTRAP.expanduser().read_text())
    config["provider"] |= {"type": "external", "module": f"study.spot_first.{SpotFirst.__name__}"}
    OWN.expanduser().write_text(yaml.safe_dump(config))


if __name__ == "__main__":
    main()
