import sys

import pytest
import yaml

pytest.importorskip("boto3", reason="needs the extra `cluster`")

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.providers import _NODE_PROVIDERS
from ray.autoscaler.node_launch_exception import NodeLaunchException

from study import spot_first
from study.spot_first import MARKET, SpotFirst

SPOT = {"InstanceType": "g6.xlarge", MARKET: {"MarketType": "spot"}}


@pytest.fixture
def provider(monkeypatch):
    """The provider, before an AWS that has so many spot machines to spare as `spare` says, or answers with `error`."""

    def create_node(self, node_config, tags, count):
        self.asked.append((MARKET in node_config, count))
        if MARKET not in node_config:
            return {f"full-{i}": tags for i in range(count)}
        if self.spare == 0:
            raise NodeLaunchException(self.error, "there is none", sys.exc_info())
        return {f"spot-{i}": tags for i in range(min(count, self.spare))}

    monkeypatch.setattr(AWSNodeProvider, "create_node", create_node)
    made = object.__new__(SpotFirst)
    made.asked, made.spare, made.error = [], 0, "InsufficientInstanceCapacity"
    return made


def test_what_spot_has_comes_from_there(provider):
    provider.spare = 4
    assert set(provider.create_node(SPOT, {}, 2)) == {"spot-0", "spot-1"}
    assert provider.asked == [(True, 2)]


def test_what_spot_lacks_is_rented_on_demand(provider):
    assert set(provider.create_node(SPOT, {}, 2)) == {"full-0", "full-1"}
    provider.spare = 1
    assert set(provider.create_node(SPOT, {}, 3)) == {"spot-0", "full-0", "full-1"}
    assert provider.asked == [(True, 2), (False, 2), (True, 3), (False, 2)]
    assert MARKET in SPOT, "the autoscaler's own settings are changed"


def test_a_zone_that_knows_no_such_type_may_be_the_last_to_be_asked(provider):
    provider.error = "Unsupported"
    assert set(provider.create_node(SPOT, {}, 1)) == {"full-0"}


def test_any_other_refusal_is_passed_on(provider):
    provider.error = "UnauthorizedOperation"
    with pytest.raises(NodeLaunchException):
        provider.create_node(SPOT, {}, 1)
    assert provider.asked == [(True, 1)]


def test_rays_autoscaler_finds_it_in_what_the_head_writes(monkeypatch, tmp_path):
    monkeypatch.setattr(spot_first, "BOOTSTRAP", tmp_path / "bootstrap.yaml")
    monkeypatch.setattr(spot_first, "OWN", tmp_path / "own.yaml")
    brought = {"cluster_name": "x", "provider": {"type": "aws", "region": "us-west-2"}, "max_workers": 4}
    spot_first.BOOTSTRAP.write_text(yaml.safe_dump(brought))
    spot_first.main()
    written = yaml.safe_load(spot_first.OWN.read_text())
    provider = written.pop("provider")
    assert written == {"cluster_name": "x", "max_workers": 4}
    assert provider["region"] == "us-west-2"
    assert _NODE_PROVIDERS[provider["type"]](provider) is SpotFirst
