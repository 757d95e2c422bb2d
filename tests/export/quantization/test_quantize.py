"""INT8 files against the float file, ONNX Runtime and TensorRT's own parser."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from edgepose.config.schema import ModelConfig
from edgepose.engine.backend import open_backend, open_refiner_backend
from edgepose.errors import ConfigError, ModelError
from edgepose.model.file import read_model
from edgepose_export.network.checkpoint import NetworkSpec
from edgepose_export.network.refiner import RefinerSpec
from edgepose_export.network.to_onnx import Card, to_onnx
from edgepose_export.onnx_file import file_hash, write_model
from edgepose_export.quantization.calibration import CalibrationSet, PictureView, open_session, with_outputs
from edgepose_export.quantization.conformance import tensorrt_objections
from edgepose_export.quantization.equalization import equalize
from edgepose_export.quantization.graph import Graph, lies_in, place
from edgepose_export.quantization.islands import FLOAT_PLACES, TENSORRT_FLOAT_PLACES
from edgepose_export.quantization.pixels import center_on_a_byte
from edgepose_export.quantization.qdq import quantize_weight
from edgepose_export.quantization.quantize import Target, calibrate, quantize
from edgepose_export.quantization.ranges import METHODS
from edgepose_export.quantization.sensitivity import map_error, map_tensors, measure, parts, run_maps
from testing.export.folders import write_dotted
from testing.export.tiny import TINY, TINY_REFINER, lively


@pytest.fixture(scope="module")
def cpu_file(source: Path, pictures: CalibrationSet) -> onnx.ModelProto:
    return quantize(source, pictures, float_places=())


@pytest.fixture(scope="module")
def tensorrt_file(source: Path, pictures: CalibrationSet) -> onnx.ModelProto:
    return quantize(source, pictures, target="tensorrt", float_places=())


def maps_of(model: onnx.ModelProto, source: Path, pictures: CalibrationSet) -> list[list[np.ndarray]]:
    names = map_tensors(onnx.load(str(source)))
    made = {output for node in model.graph.node for output in node.output}
    images = list(pictures.images(read_model(source).info))[:4]
    return run_maps(model, [f"{name}_float" if f"{name}_float" in made else name for name in names], lambda: iter(images))


@pytest.mark.parametrize("kind", ["cpu_file", "tensorrt_file"])
def test_raw_maps_stay_close_to_float(kind: str, source: Path, pictures: CalibrationSet, request: pytest.FixtureRequest) -> None:
    quantized = request.getfixturevalue(kind)
    reference = maps_of(onnx.load(str(source)), source, pictures)
    assert map_error(reference, maps_of(quantized, source, pictures)) < 0.02


@pytest.mark.parametrize(("kind", "target"), [("cpu_file", "cpu"), ("tensorrt_file", "tensorrt")])
def test_the_file_runs_and_says_how_it_was_calibrated(
    kind: str, target: Target, source: Path, pictures: CalibrationSet, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "int8.onnx"
    write_model(request.getfixturevalue(kind), path)
    file = read_model(path)
    assert file.info.precision == "int8"
    assert file.info.parent == file_hash(source)
    assert file.info.calibration is not None
    assert (file.info.calibration.hash, file.info.calibration.images) == (pictures.hash(), 32)
    backend = open_backend(file, ModelConfig(threads=1))
    found = backend.run(np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), np.uint8))
    backend.close()
    assert found.keypoints.shape == (2, 12, 17, 3)


def test_every_convolution_runs_in_integers_on_the_cpu(cpu_file: onnx.ModelProto, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(cpu_file.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fused = onnx.load(str(tmp_path / "fused.onnx"))
    kinds = [node.op_type for node in fused.graph.node]
    assert kinds.count("QLinearConv") == sum(node.op_type == "Conv" and "refinement" not in node.name for node in cpu_file.graph.node)
    assert "Relu" not in [node.op_type for node in fused.graph.node if "stem" in node.name]
    assert not any(node.name.startswith("pixels_") and node.op_type in ("Sub", "Div") for node in fused.graph.node)


def test_weights_are_int8_a_scale_a_channel_and_the_decoder_is_float(cpu_file: onnx.ModelProto) -> None:
    graph = Graph(cpu_file)
    for node in cpu_file.graph.node:
        if node.op_type != "Conv":
            continue
        dequantize = graph.producer.get(node.input[1])
        if "refinement" in node.name:
            assert dequantize is None
            continue
        assert dequantize is not None
        integers = numpy_helper.to_array(graph.constants[dequantize.input[0]])
        assert integers.dtype == np.int8
        assert numpy_helper.to_array(graph.constants[dequantize.input[1]]).shape == (len(integers),)
        assert graph.constants[node.input[2]].data_type == TensorProto.FLOAT


def test_rounding_of_weights_is_at_most_half_a_step() -> None:
    weight = np.random.default_rng(0).normal(size=(5, 3, 3, 3)).astype(np.float32)
    weight[2] = 0
    integers, scale = quantize_weight(weight)
    assert np.abs(integers * scale[:, None, None, None] - weight).max() <= scale.max() / 2 + 1e-7
    assert np.abs(integers).max() == 127


def test_equalizing_changes_nothing_in_float(source: Path, pictures: CalibrationSet) -> None:
    model = onnx.load(str(source))
    images = list(pictures.images(read_model(source).info))
    even = equalize(model, lambda: iter(images))
    assert map_error(maps_of(model, source, pictures), maps_of(even, source, pictures)) < 1e-8
    before = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert any(not np.allclose(numpy_helper.to_array(tensor), before[tensor.name]) for tensor in even.graph.initializer)


def test_equalizing_helps_a_stream_with_one_loud_channel(source: Path, pictures: CalibrationSet) -> None:
    model = onnx.load(str(source))
    graph = Graph(model)
    # Make one channel of a linear tensor 30 times louder where it is made, quieter where it is read: the same function.
    maker = next(node for node in graph.convolutions() if place(node) == "trunk.stem.1.conv")
    reader = next(node for node in graph.convolutions() if place(node) == "trunk.stem.2.conv")
    for name, index in ((maker.input[1], (3,)), (maker.input[2], (3,)), (reader.input[1], (slice(None), 3))):
        tensor = graph.constants[name]
        values = numpy_helper.to_array(tensor).copy()
        values[index] = values[index] / 30 if name == reader.input[1] else values[index] * 30
        tensor.CopyFrom(numpy_helper.from_array(values, name))
    images = list(pictures.images(read_model(source).info))
    even = equalize(model, lambda: iter(images))
    name = graph.result(maker)

    def evenness(of: onnx.ModelProto) -> float:
        (values,) = open_session(with_outputs(of, [name])).run([name], {"images": images[0]})
        loud = np.abs(values).max((0, 2, 3))
        return float(loud.max() / np.median(loud))

    assert evenness(even) < evenness(model) / 5


def test_parts_left_in_float_are_left(source: Path, pictures: CalibrationSet) -> None:
    result = quantize(source, pictures, float_places=["trunk.stem", "head.levels.*.score", "head.keypoints.out"])
    graph = Graph(result)
    floats = {place(node) for node in graph.convolutions()}
    assert floats == {
        *(f"trunk.stem.{number}.conv" for number in range(3)),
        *(f"head.levels.{number}.score.conv" for number in range(3)),
        "head.keypoints.out.conv",
    }
    with pytest.raises(ModelError, match=r"has no convolution outside of trunk, neck, head"):
        quantize(source, pictures, float_places=["trunk", "neck", "head"])


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_calibrate(method: str, source: Path, pictures: CalibrationSet) -> None:
    quantized = calibrate(source, pictures, method=method).quantized(())  # type: ignore[arg-type]
    assert map_error(maps_of(onnx.load(str(source)), source, pictures), maps_of(quantized, source, pictures)) < 0.1


def test_the_same_pictures_give_the_same_file(source: Path, pictures: CalibrationSet, cpu_file: onnx.ModelProto) -> None:
    assert quantize(source, pictures, float_places=()).SerializeToString(deterministic=True) == cpu_file.SerializeToString(
        deterministic=True
    )


def test_an_int8_file_cannot_be_quantized_again(cpu_file: onnx.ModelProto, pictures: CalibrationSet, tmp_path: Path) -> None:
    write_model(cpu_file, tmp_path / "int8.onnx")
    with pytest.raises(ModelError, match=r"int8\.onnx is int8"):
        quantize(tmp_path / "int8.onnx", pictures)


def test_calibration_without_enough_pictures_is_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="--data"):
        CalibrationSet([], 200)
    with pytest.raises(ConfigError, match="31 pictures are requested; calibration needs at least 32"):
        CalibrationSet([data], 31)


def test_fewer_pictures_than_needed_are_shown_in_several_views(data: Path, source: Path, tmp_path: Path) -> None:
    few = CalibrationSet([write_dotted(tmp_path / "few", sizes=((300, 220), (300, 420), (320, 230)))], 200)
    info = read_model(source).info
    images = list(few.images(info))
    assert len(few) == len(images) == 32
    assert len({image.tobytes() for image in images}) == 32  # all different
    assert set(few.indices) == {0, 1, 2}
    assert few.views[:4] == [PictureView(), PictureView(), PictureView(), PictureView(mirrored=True)]
    assert few.warning.startswith("the data has 3 pictures")
    again = CalibrationSet([tmp_path / "few"], 200)
    others = CalibrationSet([tmp_path / "few"], 32, offset=0.5)
    assert (again.hash(), again.views) == (few.hash(), few.views)
    assert not set(zip(few.indices, few.views, strict=True)) & set(zip(others.indices, others.views, strict=True))
    assert CalibrationSet([data], 32).warning == ""
    assert set(CalibrationSet([data], 32).views) == {PictureView()}


def test_a_view_shows_a_picture_with_its_boxes() -> None:
    image = np.arange(10 * 20 * 3, dtype=np.uint8).reshape(10, 20, 3)
    boxes = np.array([[6, 2, 10, 6], [0, 0, 6, 10]], np.float32)
    part, inside = PictureView(True, (0.25, 0.0, 1.0, 0.8)).show(image, boxes)
    np.testing.assert_array_equal(part, image[:8, 5:][:, ::-1])
    np.testing.assert_array_equal(inside, [[10, 2, 14, 6]])  # the second one is mostly cut off


def test_another_set_has_another_hash_and_no_picture_in_common(data: Path) -> None:
    first, second = CalibrationSet([data, data], 40), CalibrationSet([data, data], 40, offset=0.5)
    assert not set(first.indices) & set(second.indices)
    assert first.hash() == CalibrationSet([data, data], 40).hash()
    assert CalibrationSet([data], 33).hash() != first.hash()


def test_sensitivity_names_every_part_and_puts_the_worst_first(source: Path, pictures: CalibrationSet) -> None:
    made = calibrate(source, pictures, method="minmax")
    model, ranges = made.model, dict(made.ranges)
    images = list(pictures.images(read_model(source).info))[:2]
    # A range that is far too narrow makes one part bad.
    bad = next(node for node in Graph(model).convolutions() if place(node) == "trunk.stages.1.csp.join.conv")
    ranges[bad.output[0]] = (-1e-3, 1e-3)
    found = measure(model, ranges, lambda: iter(images), symmetric=False)
    assert {entry.place for entry in found} == set(parts(model))
    assert found[0].place == "trunk.stages.1.csp"
    assert found[0].error > 3 * found[1].error
    assert sorted((entry.error for entry in found), reverse=True) == [entry.error for entry in found]


@pytest.mark.parametrize(
    ("places", "lies"),
    [
        (["trunk.stem"], True),
        (["trunk"], True),
        (["*.stem"], True),
        (["**.0"], True),
        (["**.stem.*.conv"], True),
        (["trunk.stems"], False),
        (["*.0"], False),
        (["**.depthwise"], False),
        (["neck", "head.*.out"], False),
    ],
)
def test_places_are_matched_part_by_part(source: Path, places: list[str], lies: bool) -> None:
    stem = Graph(onnx.load(str(source))).convolutions()[0]
    assert place(stem) == "trunk.stem.0.conv"
    assert lies_in(stem, places) is lies


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize("spec", [TINY, TINY_REFINER], ids=["pose", "refine"])
def test_without_a_choice_the_sensitive_parts_stay_float(
    spec: NetworkSpec, target: Target, pictures: CalibrationSet, tmp_path: Path
) -> None:
    path = tmp_path / "float.onnx"
    write_model(to_onnx(lively(3, spec), Card("tiny", 128)), path)
    result = quantize(path, pictures, target=target)
    floats = {place(node) for node in Graph(result).convolutions()}
    every = Graph(onnx.load(str(path))).convolutions()
    wanted = (FLOAT_PLACES if target == "cpu" else TENSORRT_FLOAT_PLACES)[read_model(path).info.task]
    assert floats == {place(node) for node in every if lies_in(node, wanted)}
    assert 0 < len(floats) < len({place(node) for node in every})
    for pattern in wanted:  # a name that nothing has is a mistake
        assert any(lies_in(node, [pattern]) for node in every), pattern


def test_a_silu_reads_integers_on_the_cpu_and_is_part_of_the_kernel_in_tensorrt(
    cpu_file: onnx.ModelProto, tensorrt_file: onnx.ModelProto
) -> None:
    for model, expected in ((cpu_file, "DequantizeLinear"), (tensorrt_file, "Conv")):
        graph = Graph(model)
        makers = {graph.producer[node.input[0]].op_type for node in graph.nodes if node.op_type == "Sigmoid" and "/trunk/" in node.name}
        assert makers == {expected}


def test_a_shuffle_moves_integers(pictures: CalibrationSet, tmp_path: Path) -> None:
    path = tmp_path / "refine.onnx"
    write_model(to_onnx(lively(3, TINY_REFINER), Card("tiny", 64)), path)
    graph = Graph(quantize(path, pictures, float_places=()))
    # A shuffle after a fusion reads float.
    shuffles = [
        (graph.producer[node.input[0]], after)
        for node in graph.nodes
        if node.op_type == "Gather" and "/branches" in node.name
        for after in graph.readers[node.output[0]]
        if (graph.producer[node.input[0]].op_type, after.op_type) == ("DequantizeLinear", "QuantizeLinear")
    ]
    assert shuffles
    for before, after in shuffles:
        first, second = (numpy_helper.to_array(graph.constants[each.input[1]]) for each in (before, after))
        assert first == second


def test_equalizing_a_refiner_changes_nothing_in_float(pictures: CalibrationSet, tmp_path: Path) -> None:
    path = tmp_path / "refine.onnx"
    write_model(to_onnx(lively(3, TINY_REFINER), Card("tiny", 64)), path)
    model, images = onnx.load(str(path)), list(pictures.images(read_model(path).info))[:4]
    even = equalize(model, lambda: iter(images))
    constants = [{tensor.name: numpy_helper.to_array(tensor) for tensor in each.graph.initializer} for each in (model, even)]
    changed = {place(node) for node in Graph(model).convolutions() if (constants[0][node.input[1]] != constants[1][node.input[1]]).any()}
    assert any("branches" in name for name in changed)
    assert any("fusion" in name for name in changed)
    assert map_error(maps_of(model, path, pictures), maps_of(even, path, pictures)) < 1e-8


def test_centering_pixels_on_a_byte_changes_only_the_border(source: Path) -> None:
    model = onnx.load(str(source))
    centered, pixels, (low, high) = center_on_a_byte(model)
    assert high - low == 255
    first = Graph(model).convolutions()[0].output[0]
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    (values,) = open_session(with_outputs(centered, [pixels])).run([pixels], {"images": image})
    np.testing.assert_array_equal(values[0], image[0].transpose(2, 0, 1) + low)
    before, after = (open_session(with_outputs(each, [first])).run([first], {"images": image})[0] for each in (model, centered))
    np.testing.assert_allclose(before[..., 1:-1, 1:-1], after[..., 1:-1, 1:-1], atol=1e-3)


def test_the_tensorrt_file_raises_no_objection_and_the_cpu_file_does(cpu_file: onnx.ModelProto, tensorrt_file: onnx.ModelProto) -> None:
    assert tensorrt_objections(tensorrt_file) == []
    assert any("uint8" in sentence for sentence in tensorrt_objections(cpu_file))


def test_uint8_zeros_and_other_zero_points_are_objected_to(tensorrt_file: onnx.ModelProto) -> None:
    for value, message in ((np.array(0, np.uint8), "zero points of uint8"), (np.array(3, np.int8), "zero point other than 0")):
        corrupted = onnx.ModelProto()
        corrupted.CopyFrom(tensorrt_file)
        zero = next(node.input[2] for node in corrupted.graph.node if node.op_type == "QuantizeLinear")
        next(tensor for tensor in corrupted.graph.initializer if tensor.name == zero).CopyFrom(numpy_helper.from_array(value, zero))
        assert message in tensorrt_objections(corrupted)[0]


def test_a_refiner_is_quantized_on_crops(pictures: CalibrationSet, tmp_path: Path) -> None:
    source, int8 = tmp_path / "refine.onnx", tmp_path / "int8.onnx"
    write_model(to_onnx(lively(3, TINY_REFINER), Card("tiny-refine", 64)), source)
    crops = list(pictures.images(read_model(source).info))
    assert {crop.shape for crop in crops} == {(1, 64, 32, 3)}
    write_model(quantize(source, pictures), int8)
    info = read_model(int8).info
    assert (info.task, info.precision, info.score_weights) == ("refine", "int8", read_model(source).info.score_weights)
    settings = ModelConfig(backend="cpu", threads=1)
    found, expected = (open_refiner_backend(read_model(path), settings).run(np.concatenate(crops[:8])) for path in (int8, source))
    assert np.median(np.abs(found - expected)[..., :2]) < 2.0


@pytest.mark.parametrize("spec", [TINY, TINY_REFINER], ids=["pose", "refine"])
def test_tensorrt_parses_and_builds_the_file(spec: NetworkSpec, pictures: CalibrationSet, tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="the wheel tensorrt-rtx is not installed")
    source = tmp_path / "fixed.onnx"
    height, width = (spec.crop_height, spec.crop_width) if isinstance(spec, RefinerSpec) else (96, 128)
    write_model(to_onnx(lively(0, spec), Card("tiny", 128), height=height, width=width), source)
    model = quantize(source, pictures, target="tensorrt")
    messages: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: object, message: str) -> None:
            messages.append(message)

    logger = Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model.SerializeToString()), [str(parser.get_error(index)) for index in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    assert engine.nbytes > 10_000
    assert any("Int8" in message for message in messages)
