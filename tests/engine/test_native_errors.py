"""Sentences of ONNX Runtime, as it wrote them in several releases."""

import re

import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as native

from edgepose.engine.native_errors import error_when_loading, lacks_memory, reason
from edgepose.errors import EdgeposeError, EngineError, ModelError

PLACE = "/onnxruntime_src/onnxruntime/core/"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"[ONNXRuntimeError] : 1 : FAIL : Load model from {'long/' * 40}m.onnx failed:{PLACE}graph/model.cc:256 onnxruntime::Model::"
            "Model(onnx::ModelProto&&, const onnxruntime::PathString&) Unsupported model IR version: 14, max supported IR version: 11\n",
            "its IR version is 14, and onnxruntime .* reads up to 11; expected an older IR version, or a newer onnxruntime$",
        ),
        (
            f"[ONNXRuntimeError] : 1 : FAIL : {PLACE}graph/model_load_utils.h:46 void f(const std::unordered_map<std::string, int>&, bool) "
            "ONNX Runtime only *guarantees* support for models stamped with official released onnx opset versions. Opset 30 is under"
            " development and support for this is limited. Current official support for domain ai.onnx.ml is till opset 5.",
            "it uses opset 30 of ai.onnx.ml, and onnxruntime .* supports up to 5; expected an export with opset=5 or lower",
        ),
        (
            f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: {PLACE}providers/cpu/x.cc:12 onnxruntime::X::X("
            "const onnxruntime::OpKernelInfo&) axis was false",
            "^axis was false$",
        ),
        ("two\n   lines", "^two lines$"),
        ("x" * 2000, "^x{600} …$"),
    ],
)
def test_a_reason_is_one_line_without_places_in_the_source(text: str, said: str) -> None:
    found = reason(RuntimeError(text))
    assert re.search(said, found), found
    assert PLACE not in found


@pytest.mark.parametrize(
    "text", ["std::bad_alloc", "Failed to allocate memory for requested buffer of size 1", "CUDA failure 2: out of memory"]
)
def test_memory_that_is_short_is_not_the_fault_of_a_file(text: str) -> None:
    error = native.Fail(text)
    assert lacks_memory(error)
    assert type(error_when_loading(error, "m.onnx cannot be loaded", cpu=True)) is EngineError


@pytest.mark.parametrize(("cpu", "kind"), [(True, ModelError), (False, EngineError)])
def test_a_general_failure_is_the_fault_of_the_file_only_where_no_device_can_be_broken(cpu: bool, kind: type[EdgeposeError]) -> None:
    assert type(error_when_loading(native.Fail("999"), "m.onnx cannot be loaded", cpu=cpu)) is kind
    assert type(error_when_loading(native.InvalidGraph("bad"), "m.onnx cannot be loaded", cpu=cpu)) is ModelError
