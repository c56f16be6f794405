"""Columns of segments as the database hands them over, for tests."""

from collections.abc import Sequence

import numpy as np

from app.storage.segments.columns import DEALS, NOTHING, Values


def numbers(values: Sequence[int | None]) -> Values:
    """As SQL hands them over."""
    sent = [NOTHING if value is None else value for value in values]
    return DEALS["open_time"].read(np.array(sent, dtype=">i8").tobytes() if sent else None)
