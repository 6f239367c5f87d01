/* Put in front of XNNPACK's fully-connected-nc.c, the one file that refuses block scales which are
 * not positive. Packing and the multiplying kernels are linear in the scale, its sign included, and
 * with a sign a block of int4 reaches -8 steps on either side. Here the checks see the magnitude;
 * zero, denormals, infinities and NaN are refused as before. */
#include <math.h>

#include "xnnpack/math.h"
#define math_cvt_fp32_bf16(x) fabsf(math_cvt_fp32_bf16(x))
