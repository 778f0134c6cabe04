"""Have Airflow star out secrets wherever it logs, in the task and in its supervisor."""

from __future__ import annotations

import asyncio


def mask(secrets: tuple[str, ...]) -> None:
    """Mask secrets from now on."""
    from airflow.sdk.log import mask_secret

    for secret in secrets:
        mask_secret(secret)


async def amask(secrets: tuple[str, ...]) -> None:
    """The same in a coroutine, where a blocking word to the supervisor could wait for itself."""
    from airflow.sdk import log

    if not hasattr(log, "amask_secret"):  # Airflow before 3.3.2
        await asyncio.to_thread(mask, secrets)
        return
    for secret in secrets:
        await log.amask_secret(secret)
