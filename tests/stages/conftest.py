"""The made-up classes of linear studies, which the stages' tests use too."""

from tests.linear.conftest import source

__all__ = ["source"]
