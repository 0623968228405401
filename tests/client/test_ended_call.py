"""An error of a call that never left crosses to other processes, as results of their jobs do."""

import pickle

import grpc
import pytest

import trimtab


def test_it_is_the_same_on_the_other_side():
    with (
        trimtab.insecure_channel("orders", endpoints=["127.0.0.1:1"]) as channel,
        pytest.raises(grpc.RpcError) as raised,
    ):
        channel.unary_unary("/a/b")(b"", timeout=20)
    error = raised.value
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.code() is grpc.StatusCode.UNAVAILABLE
    assert (again.details(), str(again)) == (error.details(), str(error))
    assert not again.cancelled()
