"""The text of an optimised program is read for kernels, traffic, sorts and exchanges."""

import jax
import jax.numpy as jnp
import pytest

from deeper.profile.compiled_program import read_program

TEXT = """
HloModule jit_call, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%inside (p: bf16[8,4,4,2]) -> f32[] {
  %p = bf16[8,4,4,2]{3,2,1,0} parameter(0)
  %keys = (s32[4096]{0}, f32[4096]{0}) sort(%p, %p), dimensions={0}, to_apply=%add
  ROOT %r = f32[] reduce(%keys, %p), dimensions={0}, to_apply=%add
}

%pass (boxes: f32[64]) -> f32[64] {
  %boxes = f32[64]{0} parameter(0)
  ROOT %fewer = f32[64]{0} fusion(%boxes), kind=kLoop, calls=%add
}

%body (state: (s32[], bf16[8,4,4,2])) -> (s32[], bf16[8,4,4,2]) {
  %state = (s32[], bf16[8,4,4,2]{3,2,1,0}) parameter(0)
  %x = bf16[8,4,4,2]{3,2,1,0:T(8,128)(2,1)} get-tuple-element(%state), index=1
  %y = (bf16[8,4,4,2]{3,2,1,0}, u8[16]{0}) custom-call(%x), custom_call_target="__cudnn$convForward"
  %z = f32[] fusion(%x), kind=kInput, calls=%inside
  %best = (f32[512]{0}, s32[512]{0}) sort(%x, %x), to_apply=%add, metadata={op_name="top_k"}
  %kept = f32[64]{0} while(%z), condition=%add, body=%pass
  %told = s32[] custom-call(%kept), custom_call_target="xla_ffi_python_gpu_callback"
  %sent = ((f32[100]{0}), f32[100]{0}) all-reduce-start(%z), to_apply=%add
  %all = f32[100]{0} all-reduce-done(%sent)
  ROOT %next = (s32[], bf16[8,4,4,2]{3,2,1,0}) tuple(%x, %y)
}

ENTRY %main (input: bf16[8,4,4,2]) -> (s32[], bf16[8,4,4,2]) {
  %input = bf16[8,4,4,2]{3,2,1,0} parameter(0)
  %copied = bf16[8,4,4,2]{3,2,1,0} copy(%input)
  ROOT %loop = (s32[], bf16[8,4,4,2]{3,2,1,0}) while(%copied), condition=%add, body=%body
}
"""
MAP = 8 * 4 * 4 * 2 * 2  # bytes


def test_a_step_is_the_body_of_the_loop():
    program = read_program(TEXT)
    assert program.kernels == 5
    assert program.traffic == (2 * MAP + 16) + (MAP + 4) + (400 + 4) + (2 * MAP + 4096) + (256 + 4)
    assert program.sorts == [4096]
    assert program.selections == [512]
    assert program.host_calls == 1
    assert [one.traffic for one in program.loops] == [2 * 256]
    assert program.collectives == [400]
    assert program.beside_collectives == 0
    apart = TEXT.replace("  %all = ", "  %more = f32[] copy(%z)\n  %all = ")
    assert read_program(apart).beside_collectives == 1
    [convolution] = program.convolutions
    assert convolution.results[0].shape == (8, 4, 4, 2)
    assert (convolution.results[0].dtype, convolution.results[0].order) == ("bf16", (3, 2, 1, 0))


def test_a_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no text"):
        read_program("stablehlo")


@pytest.mark.compiles
def test_a_program_of_this_machine_is_read():
    function = jax.jit(lambda x: jnp.sort(x @ x))
    program = read_program(function.lower(jnp.ones((64, 64))).compile().as_text())
    assert program.kernels >= 2
    assert program.sorts == [64 * 64]
