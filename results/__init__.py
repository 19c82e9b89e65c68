"""The record: what studies found, as typed Parquet tables, and the ways to ask it."""

from typing import TYPE_CHECKING, Any

from results.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from results.store import Store

__all__ = ["Store", "StoreError", "StoreUnavailable"]


def __getattr__(name: str) -> Any:
    """Import the store when it is asked for, so that `python -m results.schema` runs a module not yet imported."""
    if name == "Store":
        from results.store import Store

        return Store
    raise AttributeError(f"module 'results' has no attribute {name!r}")
