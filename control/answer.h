/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef CONTROL_ANSWER_H
#define CONTROL_ANSWER_H

/**
 * @file
 * Answers of telemetry commands: dictionaries that say so when they are cut.
 *
 * Guests are keys of dictionaries, by device id: one guest with all that is known of it. With an id
 * as parameter a command shows that guest alone, which always fits one answer.
 *
 * rte_telemetry leaves out what an answer has no room for, and does not tell. So the length of an
 * answer is added up while it is made, and an answer that would become too long ends with the key
 * "cut": its value is the parameter that asks for the rest.
 *
 * Called by a thread of rte_telemetry, one at a time: on_command() holds a lock.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rte_tel_data;

/** A dictionary under construction. */
struct dict {
	struct rte_tel_data *data;
	size_t len; /**< bytes that it has as JSON at most */
	unsigned int entries;
};

/** What a command was asked for. */
struct request {
	bool alone;	    /**< one entry, first */
	unsigned int first; /**< number of the first entry */
};

/** Fills in what there is of a number. Returns false when there is nothing. */
typedef bool (*fill_fn)(unsigned int number, struct dict *d);

/** Begin a dictionary. */
void answer_begin(struct dict *d, struct rte_tel_data *data);

/** Add a number. */
void answer_number(struct dict *d, const char *key, uint64_t value);

/** Add a text; what is not printable ASCII stands as \xHH, and a long one ends with dots. */
void answer_string(struct dict *d, const char *key, const char *value);

/** Whether a command was given a parameter. */
bool answer_is_given(const char *params);

/** Returns -EINVAL if there is a parameter where none is accepted. */
int answer_refuse_parameter(const char *params);

/**
 * Read a parameter: decimal digits and nothing else.
 *
 * @param text the parameter
 * @param limit what the number must be below
 * @param[out] number it
 * @return 0 or -EINVAL
 */
int answer_parse_number(const char *text, unsigned int limit, unsigned int *number);

/**
 * Read a parameter: NUMBER, that one alone; from=NUMBER, the page that begins there; nothing, the
 * first page.
 *
 * @param params the parameter
 * @param limit what the number must be below
 * @param[out] request what is asked for
 * @return 0 or -EINVAL
 */
int answer_parse(const char *params, unsigned int limit, struct request *request);

/** End an answer before this number, and say so. */
void answer_cut(struct dict *d, unsigned int number);

/** Whether there is room for one more entry of so many bytes. If not, the answer is cut there. */
bool answer_has_room(struct dict *d, unsigned int number, size_t len);

/** Add an entry, a dictionary by its number. Returns whether there is room for others. */
bool answer_numbered(struct dict *d, unsigned int number, struct rte_tel_data *one, size_t len);

/**
 * Answer with a dictionary of each number, as many as fit; or with what there is of one number.
 *
 * @param params the parameter
 * @param d the answer
 * @param limit what numbers are below
 * @param mutex held meanwhile
 * @param fill fills in one
 * @return 0 or -EINVAL
 */
int answer_each(const char *params, struct dict *d, unsigned int limit, pthread_mutex_t *mutex,
	fill_fn fill);

#endif /* CONTROL_ANSWER_H */
