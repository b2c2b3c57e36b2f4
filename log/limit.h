/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LOG_LIMIT_H
#define LOG_LIMIT_H

/**
 * @file
 * How many lines a second those may cause who are not trusted: a token bucket that is full at the
 * start.
 *
 * Threads: the caller holds a lock.
 */

#include <stdbool.h>
#include <stdint.h>

/** A token bucket of lines. burst and per_s are constant, the rest is 0 at the start. */
struct line_limit {
	uint32_t burst; /**< lines at once, at least 1 */
	uint32_t per_s; /**< lines a second after that, at least 1 */
	uint64_t used;	/**< what is missing in the bucket, nanoseconds until it is full */
	uint64_t when;	/**< nanoseconds, when used was true */
	uint32_t suppressed; /**< lines since the last report */
	uint64_t reported;   /**< nanoseconds, when the last report was made */
};

/**
 * Ask for one line. A line that may not be written is counted as suppressed.
 *
 * @param limit the bucket
 * @param now nanoseconds of a clock that never goes back
 * @return whether the line may be written
 */
bool line_limit_take(struct line_limit *limit, uint64_t now);

/**
 * How many suppressed lines are to be reported now: once lines may flow again, and every ten
 * seconds while they are too many.
 *
 * @param limit the bucket
 * @param now as above
 * @param last whether it is the last chance
 * @return number of lines, which count as reported from now on; 0: nothing to report
 */
uint32_t line_limit_report(struct line_limit *limit, uint64_t now, bool last);

#endif /* LOG_LIMIT_H */
