"""Attention weights are captured without changing what is computed, and only in the thread that asks."""

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from clipzoo.explain import attention
from clipzoo.explain.attention import captured_attention, explicit_attention


def tensors(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize(
    ("options", "key_heads"),
    [
        ({}, 4),
        ({"is_causal": True}, 4),
        ({"scale": 0.3}, 4),
        ({"attn_mask": torch.arange(5)[None, :] != torch.arange(5)[:, None]}, 4),
        ({"attn_mask": torch.linspace(-2, 2, 25).view(5, 5)}, 4),
        ({"enable_gqa": True}, 2),
    ],
    ids=["plain", "causal", "scale", "boolean mask", "float mask", "grouped heads"],
)
def test_explicit_attention_equals_torchs(options, key_heads):
    query, key, value = tensors((3, 4, 5, 6), (3, key_heads, 5, 6), (3, key_heads, 5, 6))
    output, weights = explicit_attention(query, key, value, **options)
    torch.testing.assert_close(output, F.scaled_dot_product_attention(query, key, value, **options), rtol=0, atol=1e-6)
    assert weights.shape == (3, 4, 5, 5)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(3, 4, 5))


@pytest.mark.parametrize("need_weights", [False, True])
def test_multihead_attention_is_captured_in_the_graph_whether_it_returns_its_weights_or_not(need_weights):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    (inputs,) = tensors((3, 5, 8))
    inputs.requires_grad_()
    expected, expected_weights = layer(inputs, inputs, inputs, need_weights=need_weights)
    with captured_attention() as found:
        output, weights = layer(inputs, inputs, inputs, need_weights=need_weights)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-6)
    assert (weights is None) == (expected_weights is None)
    if need_weights:
        torch.testing.assert_close(weights, expected_weights, rtol=0, atol=1e-6)
    assert [tuple(one.shape) for one in found] == [(3, 2, 5, 5)]
    (gradient,) = torch.autograd.grad(output.sum(), found)
    assert gradient.abs().sum() > 0


def test_other_threads_are_not_captured_and_torch_is_left_as_it_was():
    assert (F.scaled_dot_product_attention, F.multi_head_attention_forward) == (attention._FUSED, attention._MULTI_HEAD)
    query, key, value = tensors((1, 1, 2, 3), (1, 1, 2, 3), (1, 1, 2, 3))
    with pytest.raises(ValueError, match="stop"), captured_attention() as found:
        outputs = []
        thread = threading.Thread(target=lambda: outputs.append(F.scaled_dot_product_attention(query, key, value)))
        thread.start()
        thread.join()
        assert found == [] and torch.equal(outputs[0], attention._FUSED(query, key, value))
        F.scaled_dot_product_attention(query, key, value)
        assert len(found) == 1
        with pytest.raises(RuntimeError, match="already active"), captured_attention():
            pass
        raise ValueError("stop")
    assert (F.scaled_dot_product_attention, F.multi_head_attention_forward) == (attention._FUSED, attention._MULTI_HEAD)
