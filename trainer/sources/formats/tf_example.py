"""tf.train.Example without TensorFlow: its three messages, described to protobuf (tensorflow/core/example)."""

from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from trainer.core.exit_codes import DataError

Feature = npt.NDArray[np.float32] | npt.NDArray[np.int64] | list[bytes]


def example(record: bytes) -> dict[str, Feature]:
    """The features of a serialized tf.train.Example: float32 and int64 arrays, and lists of bytes.

    Raises:
      DataError: it is none.
    """
    try:
        parsed = _EXAMPLE.FromString(record)
    except message.DecodeError:
        raise DataError("the record holds no tf.train.Example") from None
    return {name: _values(feature) for name, feature in parsed.features.feature.items()}


def _values(feature: Any) -> Feature:
    kind = feature.WhichOneof("kind")
    if kind == "float_list":
        return np.asarray(feature.float_list.value, np.float32)
    if kind == "int64_list":
        return np.asarray(feature.int64_list.value, np.int64)
    return list(feature.bytes_list.value)


def _described() -> Any:
    """The class of Example, in a pool of its own: TensorFlow describes the same names in the one of all."""
    file = descriptor_pb2.FileDescriptorProto(name="trainer/example.proto", package="tensorflow", syntax="proto3")
    field = descriptor_pb2.FieldDescriptorProto
    many, one = field.LABEL_REPEATED, field.LABEL_OPTIONAL
    for name, kind in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=many)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind_of_list) in enumerate(
        (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")), 1
    ):
        feature.field.add(
            name=name,
            number=number,
            type=field.TYPE_MESSAGE,
            type_name=f".tensorflow.{kind_of_list}",
            label=one,
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=one)
    entry.field.add(name="value", number=2, type=field.TYPE_MESSAGE, type_name=".tensorflow.Feature", label=one)
    features.field.add(
        name="feature",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".tensorflow.Features.FeatureEntry",
        label=many,
    )
    whole = file.message_type.add(name="Example")
    whole.field.add(name="features", number=1, type=field.TYPE_MESSAGE, type_name=".tensorflow.Features", label=one)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


_EXAMPLE = _described()
