/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef LOG_QUEUE_H
#define LOG_QUEUE_H

/**
 * @file
 * A bounded queue of texts in memory. It keeps whole texts or refuses them, and never waits.
 *
 * Threads: none of its own and no lock; the caller holds one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Bytes of a queue: some 3,000 log lines, a few seconds of a start with everything at DEBUG. */
#define TEXT_QUEUE_BYTES (256 * 1024)

/** Longest text: the statistics of 128 guests, six lines each, are 35 KB. */
#define TEXT_MAX (64 * 1024)

/** What a text is. */
enum text_kind {
	TEXT_LINE,   /**< a line of the log */
	TEXT_REPORT, /**< a line of the log that says how many lines were lost */
	TEXT_BLOCK,  /**< statistics as a table */
	TEXT_SCREEN, /**< statistics as a screen, outdated when the next one is drawn */
	TEXT_KINDS
};

/** Describes a text, whose bytes follow it in the queue. */
struct text {
	uint64_t when;	     /**< nanoseconds since 1970 */
	uint32_t len;	     /**< bytes */
	uint32_t count;	     /**< TEXT_REPORT: lines that it reports */
	enum text_kind kind;
	uint32_t level;	     /**< RTE_LOG_*, of a line */
};

/** All zeros is an empty queue. */
struct text_queue {
	uint64_t put, got; /**< bytes since the start */
	unsigned int n[TEXT_KINDS];
	uint8_t bytes[TEXT_QUEUE_BYTES];
};

/**
 * Append a text.
 *
 * @param q the queue
 * @param t describes it
 * @param bytes t->len of them
 * @return false where there is no room for it; nothing has changed then
 */
bool text_queue_put(struct text_queue *q, const struct text *t, const char *bytes);

/**
 * Take the oldest text out.
 *
 * @param q the queue
 * @param[out] t describes it
 * @param[out] bytes at least TEXT_MAX
 * @return false: the queue is empty
 */
bool text_queue_get(struct text_queue *q, struct text *t, char *bytes);

/**
 * How much of the queue is in use.
 *
 * @param q the queue
 * @return bytes
 */
static inline size_t
text_queue_used(const struct text_queue *q)
{
	return (size_t)(q->put - q->got);
}

#endif /* LOG_QUEUE_H */
