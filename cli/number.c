/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/number.h"

bool
number_parse(const char *text, int base, uint64_t *value)
{
	const char *digits = base == 16 ? "0123456789abcdefABCDEF"
		: base == 8 ? "01234567" : "0123456789";
	unsigned long long v;

	if (base == 16 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X'))
		text += 2;
	if (*text == '\0' || text[strspn(text, digits)] != '\0')
		return false;
	errno = 0;
	v = strtoull(text, NULL, base);
	*value = v;
	return errno == 0;
}
