"""Costs read from a compiled program's text: loops multiplied out, parts of arrays, memory on the chip, collectives."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from repro.pipeline import hlo

LOOP = """HloModule jit_f, is_scheduled=true

%slice_fusion (p0: bf16[10,8,4], p1: s32[]) -> bf16[8,4] {
  %p0 = bf16[10,8,4]{2,1,0} parameter(0)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  %cut = bf16[1,8,4]{2,1,0} dynamic-slice(%p0, %p1, %zero, %zero), dynamic_slice_sizes={1,8,4}
  ROOT %flat = bf16[8,4]{1,0} bitcast(%cut)
}

%write_fusion (q0: bf16[10,8,16], q1: bf16[8,16], q2: s32[]) -> bf16[10,8,16] {
  %q0 = bf16[10,8,16]{2,1,0} parameter(0)
  %q1 = bf16[8,16]{1,0} parameter(1)
  %q2 = s32[] parameter(2)
  %zero.1 = s32[] constant(0)
  %row = bf16[1,8,16]{2,1,0} bitcast(%q1)
  ROOT %put = bf16[10,8,16]{2,1,0} dynamic-update-slice(%q0, %row, %q2, %zero.1, %zero.1)
}

%body (state: (s32[], bf16[10,8,4], bf16[4,16], bf16[10,8,16])) -> (s32[], bf16[10,8,4], bf16[4,16], bf16[10,8,16]) {
  %state = (s32[], bf16[10,8,4]{2,1,0}, bf16[4,16]{1,0}, bf16[10,8,16]{2,1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %xs = bf16[10,8,4]{2,1,0} get-tuple-element(%state), index=1
  %w = bf16[4,16]{1,0} get-tuple-element(%state), index=2
  %ys = bf16[10,8,16]{2,1,0} get-tuple-element(%state), index=3
  %x = bf16[8,4]{1,0:T(8,128)(2,1)S(1)} fusion(%xs, %i), calls=%slice_fusion, backend_config={"estimated_cycles":"100"}
  %y = bf16[8,16]{1,0:T(8,128)(2,1)S(1)} convolution(%x, %w), dim_labels=bf_io->bf, config={"estimated_cycles":"50"}
  %out = bf16[10,8,16]{2,1,0} fusion(%ys, %y, %i), kind=kLoop, calls=%write_fusion
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  ROOT %after = (s32[], bf16[10,8,4]{2,1,0}, bf16[4,16]{1,0}, bf16[10,8,16]{2,1,0}) tuple(%next, %xs, %w, %out)
}

%condition (state.1: (s32[], bf16[10,8,4], bf16[4,16], bf16[10,8,16])) -> pred[] {
  %state.1 = (s32[], bf16[10,8,4]{2,1,0}, bf16[4,16]{1,0}, bf16[10,8,16]{2,1,0}) parameter(0)
  %limit = s32[]{:T(128)} constant(10)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  ROOT %less = pred[] compare(%i.1, %limit), direction=LT
}

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

ENTRY %main (xs.1: bf16[10,8,4], w.1: bf16[4,16], g.1: f32[100]) -> (bf16[10,8,16], f32[100]) {
  %xs.1 = bf16[10,8,4]{2,1,0} parameter(0)
  %w.1 = bf16[4,16]{1,0} parameter(1)
  %g.1 = f32[100]{0} parameter(2)
  %start = s32[] constant(0)
  %room = bf16[10,8,16]{2,1,0} custom-call(), custom_call_target="AllocateBuffer"
  %in = (s32[], bf16[10,8,4]{2,1,0}, bf16[4,16]{1,0}, /*index=3*/bf16[10,8,16]{2,1,0}) tuple(%start, %xs.1, %w.1, %room)
  %loop = (s32[], bf16[10,8,4], bf16[4,16], bf16[10,8,16]) while(%in), condition=%condition, body=%body
  %result = bf16[10,8,16]{2,1,0} get-tuple-element(%loop), index=3
  %total = f32[100]{0} all-reduce(%g.1), replica_groups={{0,1}}, to_apply=%sum
  ROOT %both = (bf16[10,8,16]{2,1,0}, f32[100]{0}) tuple(%result, %total)
}
"""


def test_a_loop_counts_as_often_as_it_runs():
    cost = hlo.cost(LOOP)
    assert cost.flops == 10 * 2 * 8 * 4 * 16
    assert (cost.cycles, cost.endless) == (1500, 0)
    known = LOOP.replace("body=%body\n", 'body=%body, backend_config={"known_trip_count":{"n":"7"}}\n')
    assert hlo.cost(known).flops == 7 * 2 * 8 * 4 * 16


def test_bytes_are_those_that_cross_the_memory_of_the_chip():
    # Each turn: a row of xs and the counter, the weights, a row of ys and the counter, the counter's increment. What
    # lies in S(1) stays on the chip. Once: the room for ys is made, and the gradient is read and written.
    turn = 2 * 8 * 4 + 4 + 2 * 4 * 16 + 2 * 8 * 16 + 4 + (4 + 4 + 4)
    assert hlo.cost(LOOP).bytes == 10 * turn + 2 * 10 * 8 * 16 + 2 * 400


def test_collectives_count_what_they_send():
    assert hlo.cost(LOOP).collectives == {"all-reduce": 400}


def test_a_loop_without_a_known_end_counts_once_and_is_reported():
    endless = LOOP.replace("constant(10)", "parameter(1)")
    assert hlo.cost(endless).endless == 1 and hlo.cost(endless).flops == 2 * 8 * 4 * 16


@pytest.mark.parametrize("length", [1, 3, 12])
def test_the_compiler_of_this_machine_is_read_as_well(length):
    def run(w, x):
        return lax.scan(lambda h, _: (jnp.tanh(h @ w), None), x, None, length)[0]

    text = jax.jit(jax.grad(lambda w, x: run(w, x).sum())).lower(jnp.ones((8, 8)), jnp.ones((4, 8))).compile().as_text()
    # The oldest state has no gradient of its own in some compilations: one product less.
    products = hlo.cost(re.sub(r"__onednn\$\w+", "", text)).flops / (2 * 4 * 8 * 8)
    assert 3 * length - 1 <= products <= 3 * length
