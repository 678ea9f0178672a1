"""For the tests of models/: real crops, few of them, and one short real run of the train command."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models import train
from models.dataset import centre, load_crops
from models.vgg19 import VGG19, load_imagenet

MakePeople = Callable[..., Path]


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Networks this small only wait for one another's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def will(examples: Path) -> list[Path]:
    """Files of real training crops, 80x80."""
    return sorted((examples / "people" / "will").glob("*.jpg"))


@pytest.fixture(scope="session")
def crops(will: list[Path]) -> Tensor:
    """(12, 3, 80, 80) uint8: one face in many poses."""
    return load_crops(will[::37][:12])


@pytest.fixture(scope="session")
def faces(crops: Tensor) -> Tensor:
    """(12, 3, 64, 64) float in 0..255: what serving sees of them."""
    return centre(crops).float()


@pytest.fixture(scope="session")
def imagenet() -> VGG19:
    """VGG19 up to relu4_1 with the default weights. Not to be changed."""
    network = VGG19("block4_conv1")
    load_imagenet(network)
    return network.requires_grad_(requires_grad=False)


@pytest.fixture(scope="session")
def make_people(will: list[Path]) -> MakePeople:
    """Makes a folder of people with a few crops and an identity.json each."""

    def make(folder: Path, *names: str, count: int = 8) -> Path:
        for number, name in enumerate(names):
            person = folder / name
            person.mkdir(parents=True)
            shutil.copy(will[0].parent / "identity.json", person)
            for file in will[number::20][:count]:
                shutil.copy(file, person)
        return folder

    return make


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, make_people: MakePeople) -> Path:
    """The folder of a finished run of two people, 12 steps; beside it lies `people/`. Not to be changed."""
    root = tmp_path_factory.mktemp("run")
    people = make_people(root / "people", "will", "amara")
    kept = torch.get_num_threads()
    options = ["--people", str(people), "--out", str(root / "out"), "--batch", "3", "--seed", "7"]
    assert train.main([*options, "--updates", "36", "--threads", str(kept)]) == 0
    return root / "out"
