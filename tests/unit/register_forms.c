/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Compiled many times: COMPILED and NEEDS say how and for which CPU, and ACCESS qualifies the
 * registers: volatile, or nothing, which lets GCC fold as much as clang does of volatile ones.
 */
#include <stdbool.h>
#include <stddef.h>
#include <x86intrin.h>

#include "register_forms.h"

typedef ACCESS uint32_t reg32;
typedef ACCESS int32_t reg32s;
typedef ACCESS uint16_t reg16;
typedef ACCESS uint8_t reg8;

#define FOREACH_FORM(_)                                                                            \
	_(load, return p[0])                                                                       \
	_(load_signed, return (uint64_t)(int64_t)*(reg32s *)p)                                     \
	_(load_indexed, return p[a % 8])                                                           \
	_(load_far, return p[0x300])                                                               \
	_(load_scaled, return p[(a & 7) * 2 + 1] + (uint64_t)b)                                    \
	_(load_bytes, return ((reg8 *)p)[1])                                                       \
	_(load_signed_byte, return (uint64_t)(int64_t)(int8_t)((reg8 *)p)[3])                      \
	_(load_half, return ((reg16 *)p)[1])                                                       \
	_(load_signed_half, return (uint64_t)(int64_t)(int16_t)((reg16 *)p)[0])                    \
	_(load_narrow, return (uint8_t)p[0] + (uint64_t)(uint16_t)p[1])                            \
	_(store, p[0] = a; return b)                                                               \
	_(store_0, p[0] = 0; return b)                                                             \
	_(store_constant, p[0] = 0xdeadbeef; return b)                                             \
	_(store_indexed, p[a % 8] = b; return a)                                                   \
	_(store_sum, p[0] = a + b; return b)                                                       \
	_(store_past_cache, _mm_stream_si32((int *)(uintptr_t)p, (int)a); return b)                \
	_(set_bit, p[0] |= 1; return a)                                                            \
	_(set_high_bit, p[0] |= 0x80000000u; return a)                                             \
	_(set_bits, p[0] |= a; return a)                                                           \
	_(clear_bits, p[0] &= ~0x02000000u; return a)                                              \
	_(mask_with, p[0] &= a; return a)                                                          \
	_(mask_not, p[0] &= ~a; return a)                                                          \
	_(flip, p[0] ^= a; return a)                                                               \
	_(invert, p[0] = ~p[0]; return a)                                                          \
	_(negate, p[0] = -p[0]; return a)                                                          \
	_(increment, p[0]++; return a)                                                             \
	_(decrement, p[0]--; return a)                                                             \
	_(add_to, p[0] += a; return a)                                                             \
	_(subtract_from, p[0] -= 1000; return a)                                                   \
	_(shift_left, p[0] <<= 3; return a)                                                        \
	_(shift_right, p[0] >>= b & 31; return a)                                                  \
	_(shift_signed, *(reg32s *)p >>= b & 31; return a)                                         \
	_(rotate, p[0] = p[0] << 7 | p[1] >> 25; return a)                                         \
	_(increment_is_zero, return ++p[0] == 0 ? a : b)                                           \
	_(decrement_is_negative, return (int32_t)--p[0] < 0 ? a : b)                               \
	_(masked_is_zero, return (p[0] &= a) == 0 ? a : b)                                         \
	_(add, return p[0] + a)                                                                    \
	_(subtract, return a - p[0])                                                               \
	_(and, return p[0] & a)                                                                    \
	_(or, return p[0] | a)                                                                     \
	_(xor, return p[0] ^ a)                                                                    \
	_(and_constant, return p[0] & 0x00f0f000)                                                  \
	_(add_long, return p[0] + ((uint64_t)a << 32))                                             \
	_(wide_from_two, volatile uint32_t *v = p; return v[0] | (uint64_t)v[1] << 32)             \
	_(add_carry, uint32_t s; bool c = __builtin_add_overflow(p[0], a, &s);                     \
		return s + ((uint64_t)c << 40))                                                    \
	_(add_two_carry, uint32_t s, h; bool c = __builtin_add_overflow(p[0], a, &s);              \
		h = p[1] + b + c; return s + ((uint64_t)h << 32))                                  \
	_(add_with_carry, unsigned int s; unsigned char c = _addcarry_u32(1, a, b, &s);            \
		c = _addcarry_u32(c, s, p[0], &s); return s + ((uint64_t)c << 40))                 \
	_(subtract_borrow, unsigned int s; unsigned char c = _subborrow_u32(1, a, b, &s);          \
		c = _subborrow_u32(c, s, p[0], &s); return s + ((uint64_t)c << 40))                \
	_(multiply, return p[0] * a)                                                               \
	_(multiply_constant, return p[0] * 1000)                                                   \
	_(multiply_small, return p[0] * 77)                                                        \
	_(multiply_long, return (uint64_t)p[0] * a)                                                \
	_(multiply_high, return (uint64_t)p[0] * a >> 32)                                          \
	_(multiply_signed, return (uint64_t)((int64_t)*(reg32s *)p * (int32_t)a))                  \
	_(divide, return a / p[0])                                                                 \
	_(divide_signed, return (uint32_t)((int32_t)(a >> 1) / *(reg32s *)p))                      \
	_(divide_rest, return a % p[0])                                                            \
	_(equal, return p[0] == a ? 10 : 20)                                                       \
	_(less, return p[0] < a ? a : b)                                                           \
	_(less_signed, return *(reg32s *)p < (int32_t)a ? a : b)                                   \
	_(above_constant, return p[0] > 1000000 ? a : b)                                           \
	_(below_small, return p[0] < 100 ? a : b)                                                  \
	_(is_zero, return p[0] == 0)                                                               \
	_(is_negative, return *(reg32s *)p < 0 ? a : b)                                            \
	_(bit_is_set, return p[0] & 0x10000000 ? a : b)                                            \
	_(low_bit_is_set, return p[0] & 1 ? a : b)                                                 \
	_(bits_are_set, return p[0] & a ? 3 : 4)                                                   \
	_(bit_of_number, return p[0] >> (a & 31) & 1)                                              \
	_(branch_on_bit, if (p[0] & 1u << (a & 31)) p[1] = b; return p[1])                         \
	_(poll, uint32_t i; for (i = 0; i < 5 && !(p[0] & 0x02000000); i++) p[1] = i; return i)    \
	_(select, uint32_t v = p[0]; return a > b ? v : a)                                         \
	_(select_other, uint32_t v = p[1]; return (int32_t)a < 5 ? v : b)                          \
	_(largest, uint32_t v = p[0]; return v > a ? v : a)                                        \
	_(swap_bytes, return __builtin_bswap32(p[0]))                                              \
	_(store_swapped, p[0] = __builtin_bswap32(a); return b)                                    \
	_(swap_half, return __builtin_bswap16(((reg16 *)p)[0]))                                    \
	_(count_ones, return (uint64_t)__builtin_popcount(p[0]))                                   \
	_(first_one, return (uint64_t)__builtin_ctz(p[0] | 0x80000000))                            \
	_(first_one_of_all, return p[0] ? (uint64_t)__builtin_ctz(p[0]) : 99)                      \
	_(last_one, return (uint64_t)__builtin_clz(p[0] | 1))                                      \
	_(and_not, return ~p[0] & a)                                                               \
	_(without_bits, return p[0] & ~a)                                                          \
	_(low_one, uint32_t v = p[0]; return v & -v)                                               \
	_(without_low_one, uint32_t v = p[0]; return v & (v - 1))                                  \
	_(up_to_low_one, uint32_t v = p[0]; return v ^ (v - 1))                                    \
	_(low_bits, return p[0] & ((1u << (a & 31)) - 1))                                          \
	_(field, return p[0] >> 5 & 0x3ff)                                                         \
	_(field_of_number, return p[0] >> (a & 31) & ((1u << (b & 31)) - 1))                       \
	_(shifted_left, return p[0] << (a & 31))                                                   \
	_(shifted_right, return p[0] >> (a & 31))                                                  \
	_(shifted_signed, return (uint32_t)(*(reg32s *)p >> (a & 31)))                             \
	_(rotated, return p[0] << 11 | p[0] >> 21)                                                 \
	_(rotated_value, uint32_t v = p[0]; return v << 11 | v >> 21)                              \
	_(float_of, union { float f; uint32_t u; } x = { (float)*(reg32s *)p }; return x.u)        \
	_(double_of, union { double f; uint64_t u; } x = { (double)*(reg32s *)p }; return x.u)     \
	_(double_of_unsigned, union { double f; uint64_t u; } x = { p[0] }; return x.u)            \
	_(long_double_of, long double x = *(reg32s *)p; return (uint64_t)(int64_t)(x * 4))         \
	_(float_in, union { float f; uint32_t u; } x, y = { .u = a & 0x3fffffff };                 \
		x.f = *(ACCESS float *)p + y.f; return x.u)                                        \
	_(float_out, union { uint32_t u; float f; } x = { a }; *(ACCESS float *)p = x.f; return b) \
	_(vector_of, __m128i v = _mm_add_epi32(_mm_cvtsi32_si128((int)p[0]),                       \
		_mm_set1_epi32((int)a)); return (uint64_t)_mm_cvtsi128_si64(v))                    \
	_(vector_of_four, __m128i v = _mm_set1_epi32((int)p[0]); v = _mm_mul_epu32(v, v);          \
		return (uint64_t)_mm_cvtsi128_si64(v) ^ a)                                         \
	_(vector_out, p[0] = (uint32_t)_mm_cvtsi128_si32(_mm_slli_epi32(                           \
		_mm_set1_epi32((int)a), 3)); return b)                                             \
	_(atomic_add, return __atomic_fetch_add(p, a, __ATOMIC_SEQ_CST))                           \
	_(atomic_add_only, __atomic_fetch_add(p, a, __ATOMIC_SEQ_CST); return b)                   \
	_(atomic_subtract, __atomic_fetch_sub(p, 1, __ATOMIC_SEQ_CST); return b)                   \
	_(atomic_or, __atomic_fetch_or(p, a, __ATOMIC_SEQ_CST); return b)                          \
	_(atomic_and, __atomic_fetch_and(p, a, __ATOMIC_SEQ_CST); return b)                        \
	_(atomic_xor, __atomic_fetch_xor(p, 0x100, __ATOMIC_SEQ_CST); return b)                    \
	_(atomic_or_new, return __atomic_or_fetch(p, a, __ATOMIC_SEQ_CST))                         \
	_(atomic_is_zero, return __atomic_sub_fetch(p, 1, __ATOMIC_SEQ_CST) == 0 ? a : b)          \
	_(atomic_set_bit, return __atomic_fetch_or(p, 1u << (a & 31), __ATOMIC_SEQ_CST) &          \
		1u << (a & 31) ? a : b)                                                            \
	_(atomic_clear_bit, return __atomic_fetch_and(p, ~(1u << 9), __ATOMIC_SEQ_CST) &           \
		1u << 9 ? a : b)                                                                   \
	_(exchange, return __atomic_exchange_n(p, a, __ATOMIC_SEQ_CST))                            \
	_(compare_exchange, uint32_t e = a & 1 ? p[0] : a; bool done =                             \
		__atomic_compare_exchange_n(p, &e, b, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);  \
		return e + ((uint64_t)done << 40))                                                 \
	_(store_ordered, __atomic_store_n(p, a, __ATOMIC_SEQ_CST); return b)                       \
	FOREACH_FORM_OF_CPU(_)

#ifdef __MOVDIRI__
#define FOREACH_FORM_OF_CPU(_)                                                                     \
	_(store_direct, _directstoreu_u32((void *)(uintptr_t)p, a); return b)                      \
	_(store_direct_far, _directstoreu_u32((void *)(uintptr_t)(p + 0x80), a); return b)         \
	_(store_direct_indexed, _directstoreu_u32((void *)(uintptr_t)(p + a % 8), b); return a)
#elif defined(__SSE4_2__)
#define FOREACH_FORM_OF_CPU(_)                                                                     \
	_(crc, return _mm_crc32_u32(a, p[0]))                                                      \
	_(crc_of_byte, return _mm_crc32_u8(a, ((reg8 *)p)[2]))                                     \
	_(vector_insert, __m128i v = _mm_insert_epi32(_mm_set1_epi32((int)a), (int)p[0], 1);       \
		return (uint64_t)_mm_cvtsi128_si64(v))                                             \
	_(vector_extract, p[0] = (uint32_t)_mm_extract_epi32(_mm_set_epi32((int)a, (int)b, 5,      \
		(int)a), 2); return b)
#else
#define FOREACH_FORM_OF_CPU(_)
#endif

#define FORM_FUNCTION(name, ...)                                                                   \
	static uint64_t form_##name(void *at, uint32_t a, uint32_t b)                              \
	{                                                                                          \
		reg32 *p = at;                                                                     \
		(void)a, (void)b;                                                                  \
		__VA_ARGS__;                                                                       \
	}
FOREACH_FORM(FORM_FUNCTION)

#define FORM_ROW(name, ...) { #name, form_##name },
static const struct register_form all[] = { FOREACH_FORM(FORM_ROW) };

static struct register_forms forms = { COMPILED, NEEDS, all, sizeof(all) / sizeof(all[0]), NULL };

static void __attribute__((constructor))
add(void)
{
	forms.next = register_forms;
	register_forms = &forms;
}
