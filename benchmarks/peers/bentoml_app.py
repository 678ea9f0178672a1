"""BentoML: two worker processes with one thread each.

Without its adaptive batching: that needs a second service behind the first one, and on a CPU larger
batches bring less than the way between the two costs.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import ContentType
from PIL import Image as PillowImage

from benchmarks.peers.work import PNG, WORKERS, Work, host, port


@bentoml.service(workers=WORKERS, threads=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Swap:
    def __init__(self) -> None:
        self.work = Work()

    @bentoml.api(route="/swap")
    def swap(self, image: PillowImage.Image) -> Annotated[bytes, ContentType(PNG)]:
        """BentoML opens the picture of the form field `image` itself."""
        (face,) = self.work.infer([np.asarray(image.convert("RGB"))])
        return self.work.write(face)


if __name__ == "__main__":
    command = [sys.executable, "-m", "bentoml", "serve", "benchmarks.peers.bentoml_app:Swap"]
    os.execv(sys.executable, [*command, "--host", host(), "--port", str(port())])
