"""Health, as load balancers read it."""

from typing import Literal

from pydantic import ConfigDict

from app.http.schemas.common import Response


class Health(Response):
    """How the service is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ready"}]})

    status: Literal["alive", "ready"]
