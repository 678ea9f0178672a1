"""FACESWAPD_RAY_*: how many replicas Ray runs, and what each takes."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from faceswap.sessions import Device
from service.settings import Settings

NAME = "faceswapd"


class RaySettings(BaseSettings):
    """FACESWAPD_RAY_*: how many replicas, and what each takes; the rest is `Settings`."""

    model_config = SettingsConfigDict(env_prefix="FACESWAPD_RAY_", frozen=True)

    min_replicas: Annotated[int, Field(ge=0)] = 1
    max_replicas: Annotated[int, Field(ge=1)] = 1
    cpus: Annotated[float, Field(gt=0)] = 1.0
    gpus: Annotated[float, Field(ge=0)] = 0.0
    """0.25: four replicas share a GPU. Above 0 the replica runs on CUDA or not at all."""
    target_ongoing: Annotated[float, Field(gt=0)] = 8.0
    """Requests inside a replica that autoscaling aims at."""
    upscale_delay_s: Annotated[float, Field(ge=0)] = 10.0
    downscale_delay_s: Annotated[float, Field(ge=0)] = 300.0

    def options(self, settings: Settings) -> dict[str, Any]:
        """Of the deployment, in Ray's words."""
        return {
            "name": NAME,
            "ray_actor_options": {"num_cpus": self.cpus, "num_gpus": self.gpus},
            "max_ongoing_requests": settings.queue_images,
            "health_check_period_s": 2,
            "graceful_shutdown_timeout_s": settings.shutdown_grace_s,
            "autoscaling_config": {
                "min_replicas": self.min_replicas,
                "max_replicas": max(self.min_replicas, self.max_replicas),
                "target_ongoing_requests": self.target_ongoing,
                "upscale_delay_s": self.upscale_delay_s,
                "downscale_delay_s": self.downscale_delay_s,
            },
        }

    def of_a_replica(self, settings: Settings) -> Settings:
        """Ray counts CPUs but does not bind to them, so a replica must not start a thread for every core."""
        threads = math.ceil(self.cpus)
        return settings.model_copy(
            update={
                "device": Device.CUDA if self.gpus else settings.device,
                "workers": settings.workers or (None if self.gpus else threads),
                "image_threads": settings.image_threads or threads,
            }
        )
