/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CLI_ERROR_H
#define CLI_ERROR_H

/**
 * @file
 * One line that says what was wrong with settings, for who prints or logs it: stderr at start, the
 * log when a running switch reads its settings again.
 */

#include <rte_common.h>

/** The line, without a program's name before it and a newline after it. */
struct error_line {
	char text[1024];
};

/**
 * Write the line. Characters that would break it, from a value, become question marks. Any thread.
 *
 * @param[out] error where it goes
 * @param ret what to return
 * @param format as of printf(3)
 * @return @p ret
 */
int error_set(struct error_line *error, int ret, const char *format, ...) __rte_format_printf(3, 4);

#endif /* CLI_ERROR_H */
