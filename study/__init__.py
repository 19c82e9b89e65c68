"""The platform: configuration, plan, search, workers. Knows the three other rooms."""

from study.errors import StudyError

__all__ = ["StudyError"]
