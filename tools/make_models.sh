#!/bin/sh
# make_models.sh TRAIN DEV OUTPUT [NAME...]: makes model files from the shipped checkpoints: float, INT8 for CPUs and INT8
# for TensorRT, each measured on DEV; refiners together with the INT8 file of ghost-n. TRAIN and DEV are COCO-format folders.
set -eu
train=$1 dev=$2 output=$3
shift 3
tool=.venv/bin/edgepose-export
mkdir -p "$output"
for name in "${@:-ghost-n}"; do
    case $name in
        refine-n) size=192 ;;
        refine-s) size=256 ;;
        *) size=${SIZE:-320} ;;
    esac
    case $name in refine-*) teacher="MoveNet SinglePose" ;; *) teacher="MoveNet MultiPose Lightning" ;; esac
    $tool onnx "$name" --size "$size" --name "$name" --output "$output/$name.onnx" \
        --trained-on "COCO pictures with labeled people; teacher $teacher"
    $tool quantize "$output/$name.onnx" --data "$train" --output "$output/$name-int8.onnx"
    $tool quantize "$output/$name.onnx" --data "$train" --output "$output/$name-tensorrt.onnx" --target tensorrt
    for kind in "" -int8 -tensorrt; do
        case $name in
            refine-*) $tool evaluate "$output/ghost-n-int8.onnx" "$dev" --refiner "$output/$name$kind.onnx" --record ;;
            *) $tool evaluate "$output/$name$kind.onnx" "$dev" --record ;;
        esac
    done
done
