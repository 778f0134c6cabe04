"""Expect an error that ends a task for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

if TYPE_CHECKING:
    from airflow_provider_bitrix24.exceptions import Bitrix24Error


def raises_for_good(kind: type[Bitrix24Error], match: str | None = None) -> pytest.RaisesExc[AirflowFailException]:
    """As `pytest.raises`: the error is of the class of ours, and Airflow does not retry the task."""
    return pytest.raises(AirflowFailException, match=match, check=lambda error: isinstance(error, kind))
