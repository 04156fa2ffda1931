"""The TPU compiler's text, line by line as it writes it."""

import pytest

from dar_jax.planning.hlo_costs import program_costs
from dar_jax.planning.hlo_costs.hlo_module import parse, shapes

# Attention's queries: [1024, 3584] x [3584, 14 heads, 128], of which the TPU's compiler makes a convolution.
HEADS = """HloModule jit_heads, is_scheduled=true

%fused_computation.1 (param_0: bf16[1024,3584,1], param_1: bf16[3584,14,128]) -> bf16[1024,14,128] {
  %param_0 = bf16[1024,3584,1]{1,0,2:T(8,128)(2,1)S(1)} parameter(0)
  %param_1 = bf16[3584,14,128]{0,2,1:T(8,128)(2,1)} parameter(1)
  ROOT %convolution.197 = bf16[1024,14,128]{0,2,1:T(8,128)(2,1)} convolution(%param_0, %param_1), \
window={size=14 pad=13_13 rhs_reversal=1}, dim_labels=bf0_i0o->b0f, metadata={op_name="a(b)/c"}
}

ENTRY %main.3 (a: bf16[1024,3584,1], b: bf16[3584,14,128]) -> bf16[1024,14,128] {
  %a = bf16[1024,3584,1]{1,0,2:T(8,128)(2,1)S(1)} parameter(0)
  %b = bf16[3584,14,128]{0,2,1:T(8,128)(2,1)} parameter(1)
  ROOT %fusion.1 = bf16[1024,14,128]{0,2,1:T(8,128)(2,1)} fusion(%a, %b), kind=kOutput, calls=%fused_computation.1
}
"""

# A gather of weights that runs beside a product: begun, carried on and ended by three fusions.
GATHER = """HloModule jit_gather, is_scheduled=true

%begin (p: bf16[896,128]) -> (bf16[896,128], bf16[3584,128], u32[]) {
  %p = bf16[896,128]{1,0:T(8,128)(2,1)} parameter(0)
  %all-gather.349 = bf16[3584,128]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=293, \
replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}, dimensions={0}, frontend_attributes={chain_id="1"}
  ROOT %custom-call.34 = (bf16[896,128]{1,0:T(8,128)(2,1)}, bf16[3584,128]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) \
custom-call(%all-gather.349), custom_call_target="AsyncCollectiveStart"
}

%go_on (q: bf16[896,128], r: bf16[3584,128], s: u32[]) -> bf16[3584,128] {
  %q = bf16[896,128]{1,0:T(8,128)(2,1)} parameter(0)
  %r = bf16[3584,128]{1,0:T(8,128)(2,1)} parameter(1)
  %s = u32[]{:S(2)} parameter(2)
  ROOT %all-gather.350 = bf16[3584,128]{1,0:T(8,128)(2,1)} all-gather(%q), channel_id=293, \
replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}, dimensions={0}, frontend_attributes={chain_id="1"}
}

ENTRY %main (w: bf16[896,128]) -> bf16[3584,128] {
  %w = bf16[896,128]{1,0:T(8,128)(2,1)} parameter(0)
  %start = (bf16[896,128]{1,0:T(8,128)(2,1)}, bf16[3584,128]{1,0:T(8,128)(2,1)}, /*index=2*/u32[]{:S(2)}) fusion(%w), \
kind=kCustom, calls=%begin
  %one = bf16[896,128]{1,0:T(8,128)(2,1)} get-tuple-element(%start), index=0
  %two = bf16[3584,128]{1,0:T(8,128)(2,1)} get-tuple-element(%start), index=1
  %three = u32[]{:S(2)} get-tuple-element(%start), index=2
  ROOT %done = bf16[3584,128]{1,0:T(8,128)(2,1)} fusion(%one, %two, %three), kind=kCustom, calls=%go_on
}
"""

# Attention's values as decoding reads them: an inner fusion only sees them in another shape.
SEEN_OTHERWISE = """HloModule jit_decode, is_scheduled=true

%otherwise (p: bf16[256,1,1024,128]) -> bf16[256,1024,128] {
  %p = bf16[256,1,1024,128]{3,2,0,1:T(8,128)(2,1)} parameter(0)
  ROOT %bitcast.1 = bf16[256,1024,128]{2,1,0:T(8,128)(2,1)} bitcast(%p)
}

%mixed (q: bf16[256,1,1024,128], r: bf16[256,7,1024]) -> bf16[256,7,128] {
  %r = bf16[256,7,1024]{2,1,0:T(8,128)(2,1)S(1)} parameter(1)
  %q = bf16[256,1,1024,128]{3,2,0,1:T(8,128)(2,1)} parameter(0)
  %fusion.480 = bf16[256,1024,128]{2,1,0:T(8,128)(2,1)} fusion(%q), kind=kLoop, calls=%otherwise
  ROOT %convolution.19 = bf16[256,7,128]{2,1,0:T(8,128)(2,1)S(1)} convolution(%r, %fusion.480), \
window={size=256 stride=255 lhs_dilate=256}, dim_labels=0bf_0io->0bf
}

ENTRY %main (v: bf16[256,1,1024,128], s: bf16[256,7,1024]) -> bf16[256,7,128] {
  %v = bf16[256,1,1024,128]{3,2,0,1:T(8,128)(2,1)} parameter(0)
  %s = bf16[256,7,1024]{2,1,0:T(8,128)(2,1)S(1)} parameter(1)
  ROOT %fusion.500 = bf16[256,7,128]{2,1,0:T(8,128)(2,1)S(1)} fusion(%v, %s), kind=kOutput, calls=%mixed
}
"""


KERNEL = """HloModule jit_kernel, is_scheduled=true

ENTRY %main (w: bf16[8,128]) -> bf16[8,128] {
  %w = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %splash = bf16[8,128]{1,0:T(8,128)(2,1)} custom-call(%w), custom_call_target="tpu_custom_call", \
frontend_attributes={kernel_metadata={
"xprof_metadata":"{\\"block_q\\": 256}"
}}, backend_config={"custom_call_config":{"body":"TUzvUg"STATED}}
  ROOT %copy = bf16[8,128]{1,0:T(8,128)(2,1)} copy(%splash), metadata={op_name="a"}
}
"""


@pytest.mark.parametrize(
    ("stated", "flops", "kernels"), [("", 0, 1), (',"cost_estimate":{"flops":"1000","bytes_accessed":"7"}', 1000, 0)]
)
def test_a_kernel_counts_as_what_it_states_or_is_missed(stated, flops, kernels):
    found = program_costs(KERNEL.replace("STATED", stated)).total
    assert (found.flops, found.kernels) == (flops, kernels)
    assert found.hbm_bytes == 4 * 8 * 128 * 2


def test_a_product_seen_as_a_convolution_counts_as_the_product():
    found = program_costs(HEADS).total
    assert found.flops == 2 * 1024 * 3584 * 14 * 128
    weights, result = 3584 * 14 * 128 * 2, 1024 * 14 * 128 * 2
    assert found.hbm_bytes == weights + result  # what lies in VMEM, S(1), is no HBM traffic


def test_what_a_fusion_reads_in_another_shape_is_read():
    found = program_costs(SEEN_OTHERWISE).total
    assert (found.read_bytes, found.written_bytes) == (256 * 1024 * 128 * 2, 0)


def test_a_collective_spread_over_fusions_is_sent_once():
    assert program_costs(GATHER).total.collective_bytes == {"all-gather": 3 / 4 * 3584 * 128 * 2}


@pytest.mark.parametrize(
    ("text", "elements", "nbytes", "space"),
    [
        ("f32[]", 1, 4, 0),
        ("bf16[512,64]{1,0}", 512 * 64, 512 * 64 * 2, 0),
        ("bf16[512,64]{1,0:T(8,128)(2,1)}", 512 * 64, 512 * 128 * 2, 0),
        ("bf16[64,512]{0,1:T(8,128)(2,1)S(1)}", 64 * 512, 512 * 128 * 2, 1),
        ("f32[3]{0:T(128)}", 3, 512, 0),
        ("pred[7]{0}", 7, 7, 0),
        ("s4[8]{0:T(128)}", 8, 64, 0),
    ],
)
def test_an_array_takes_what_its_tiles_take(text, elements, nbytes, space):
    (shape,) = shapes(text)
    assert (shape.elements, shape.nbytes, shape.space) == (elements, nbytes, space)


def test_a_tuple_has_all_its_shapes():
    assert [shape.dims for shape in shapes("(s32[]{:T(128)}, bf16[2,3]{1,0:T(8,128)}, /*index=2*/f32[4])")] == [
        (),
        (2, 3),
        (4,),
    ]


def test_text_of_another_form_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        parse("func.func @main() { return }")
