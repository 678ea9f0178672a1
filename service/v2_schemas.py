"""The bodies of the Open Inference Protocol v2, as KServe and NVIDIA's Triton write them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from faceswap.faces import CROP_SIZE

UINT8 = "UINT8"
CROPS, FACES, MASKS = "crops", "faces", "masks"
"""The names of the tensors: (N, 64, 64, 3) RGB in; (N, 64, 64, 3) RGB and (N, 64, 64) out."""
SHAPES = {
    CROPS: [-1, CROP_SIZE, CROP_SIZE, 3],
    FACES: [-1, CROP_SIZE, CROP_SIZE, 3],
    MASKS: [-1, CROP_SIZE, CROP_SIZE],
}


class TensorFacts(BaseModel):
    """What a tensor must look like; -1 stands for any number of faces."""

    name: str
    datatype: str = UINT8
    shape: list[int]


class ServerFacts(BaseModel):
    name: str = "faceswapd"
    version: str
    extensions: list[str] = ["binary_tensor_data"]


class ServerLive(BaseModel):
    live: bool = True


class ServerReady(BaseModel):
    ready: bool = True


class ModelFacts(BaseModel):
    """An identity is a model: its version is the beginning of its decoder's sha256."""

    name: str
    versions: list[str]
    platform: str = "onnxruntime_onnx"
    inputs: list[TensorFacts]
    outputs: list[TensorFacts]


class ModelReady(BaseModel):
    name: str
    ready: bool = True


class V2Error(BaseModel):
    """An error of the protocol; `type` is that of the same problem elsewhere in this service."""

    error: Annotated[str, Field(description="What happened here and what to do about it.")]
    type: Annotated[str, Field(examples=["/problems/bad-tensor"])]


class TensorParameters(BaseModel):
    """Others are taken and ignored."""

    model_config = ConfigDict(frozen=True)

    binary_data_size: Annotated[
        int | None, Field(ge=0, description="Bytes behind the JSON, in place of `data`.")
    ] = None
    shared_memory_region: str | None = None


class InputTensor(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(json_schema_extra={"enum": [CROPS]})]
    shape: Annotated[list[int], Field(max_length=8, description="(N, 64, 64, 3)")]
    datatype: Annotated[str, Field(json_schema_extra={"enum": [UINT8]})]
    parameters: TensorParameters = TensorParameters()
    data: Annotated[list[Any] | None, Field(description="0 to 255, nested or flat, row by row; RGB.")] = None


class OutputParameters(BaseModel):
    model_config = ConfigDict(frozen=True)

    binary_data: bool | None = None


class OutputWish(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: Annotated[str, Field(json_schema_extra={"enum": [FACES, MASKS]})]
    parameters: OutputParameters = OutputParameters()


class RequestParameters(BaseModel):
    """Others are taken and ignored."""

    model_config = ConfigDict(frozen=True)

    binary_data_output: Annotated[
        bool, Field(description="Outputs as bytes behind the JSON, unless one says otherwise.")
    ] = False


class InferRequest(BaseModel):
    """The JSON of POST /v2/models/{identity}/infer."""

    model_config = ConfigDict(frozen=True)

    id: Annotated[str | None, Field(max_length=256)] = None
    parameters: RequestParameters = RequestParameters()
    inputs: Annotated[list[InputTensor], Field(min_length=1, max_length=1)]
    outputs: Annotated[
        list[OutputWish] | None, Field(max_length=2, description="By default all there are.")
    ] = None


class OutputTensor(BaseModel):
    name: str
    datatype: str = UINT8
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: Annotated[list[int] | None, Field(description="Flat, row by row.")] = None


class InferResponse(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    parameters: Annotated[
        dict[str, str], Field(description="digital_source_type: IPTC's word for what the faces are.")
    ]
    outputs: list[OutputTensor]
