/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_telemetry.h>
#include <rte_version.h>

#include "control/answer.h"

/* Older releases of rte_telemetry call unsigned numbers u64, newer ones uint. */
#if RTE_VERSION < RTE_VERSION_NUM(23, 3, 0, 0)
#define add_u64 rte_tel_data_add_dict_u64
#else
#define add_u64 rte_tel_data_add_dict_uint
#endif

/**
 * Bytes that the entries of an answer may have as JSON. rte_telemetry writes an answer into 16 KiB
 * (MAX_OUTPUT_LEN in its telemetry.c, from 20.05 to 24.11); of these a command of up to 55 bytes
 * with its punctuation, and the entry "cut", need less than 128.
 */
#define ANSWER_MAX (16 * 1024 - 128)

/** Entries of an answer: one is left for "cut". */
#define ENTRIES_MAX (RTE_TEL_MAX_DICT_ENTRIES - 1)

#define CUT_PREFIX "from="

void
answer_begin(struct dict *d, struct rte_tel_data *data)
{
	*d = (struct dict){ .data = data, .len = strlen("{}") };
	rte_tel_data_start_dict(data);
}

void
answer_number(struct dict *d, const char *key, uint64_t value)
{
	char text[24];

	if (add_u64(d->data, key, value) != 0)
		return;
	d->entries++;
	d->len += strlen("\"\":,") + strlen(key) +
		(size_t)snprintf(text, sizeof(text), "%" PRIu64, value);
}

/*
 * rte_telemetry makes no valid JSON of bytes beyond ASCII: it takes them for negative numbers. So
 * they stand as \xHH in an answer, like bytes that no terminal shows. A text that is too long for
 * rte_telemetry then ends with dots.
 */
static void
printable(const char *from, char *text, size_t size)
{
	size_t len = 0;

	for (; *from != '\0'; from++) {
		bool plain = *from >= ' ' && *from <= '~';

		if (len + (plain ? 1 : 4) + sizeof("...") > size) {
			len += (size_t)snprintf(text + len, size - len, "...");
			break;
		}
		len += (size_t)snprintf(text + len, size - len, plain ? "%c" : "\\x%02x",
			(unsigned char)*from);
	}
	text[len] = '\0';
}

void
answer_string(struct dict *d, const char *key, const char *value)
{
	char text[RTE_TEL_MAX_STRING_LEN];
	const char *c;

	printable(value, text, sizeof(text));
	if (rte_tel_data_add_dict_string(d->data, key, text) != 0)
		return;
	d->entries++;
	d->len += strlen("\"\":\"\",") + strlen(key) + strlen(text);
	for (c = text; *c != '\0'; c++)
		d->len += *c == '"' || *c == '\\';
}

/* A parameter: decimal digits and nothing else, of a number below limit. */
int
answer_parse_number(const char *text, unsigned int limit, unsigned int *number)
{
	unsigned long value;

	if (text[0] == '\0' || text[strspn(text, "0123456789")] != '\0')
		return -EINVAL;
	value = strtoul(text, NULL, 10); /* beyond its range ULONG_MAX */
	if (value >= limit)
		return -EINVAL;
	*number = (unsigned int)value;
	return 0;
}

/* rte_telemetry makes no difference between no parameter and one without a character. */
bool
answer_is_given(const char *params)
{
	return params != NULL && params[0] != '\0';
}

/* NUMBER: that one alone; from=NUMBER: the page that begins there; nothing: the first page. */
int
answer_parse(const char *params, unsigned int limit, struct request *request)
{
	*request = (struct request){ false, 0 };
	if (!answer_is_given(params))
		return 0;
	if (strncmp(params, CUT_PREFIX, strlen(CUT_PREFIX)) == 0)
		return answer_parse_number(params + strlen(CUT_PREFIX), limit, &request->first);
	request->alone = true;
	return answer_parse_number(params, limit, &request->first);
}

/* The answer ends before this number. */
void
answer_cut(struct dict *d, unsigned int number)
{
	char next[24];

	snprintf(next, sizeof(next), CUT_PREFIX "%u", number);
	answer_string(d, "cut", next);
}

/* Whether there is room for one more entry of so many bytes. If not, the answer ends here. */
bool
answer_has_room(struct dict *d, unsigned int number, size_t len)
{
	if (d->len + len <= ANSWER_MAX && d->entries < ENTRIES_MAX)
		return true;
	answer_cut(d, number);
	return false;
}

/* One more entry, a dictionary by its number. Returns whether there is room for others. */
bool
answer_numbered(struct dict *d, unsigned int number, struct rte_tel_data *one, size_t len)
{
	char key[12];

	snprintf(key, sizeof(key), "%u", number);
	len += strlen("\"\":,") + strlen(key);
	if (!answer_has_room(d, number, len) ||
			rte_tel_data_add_dict_container(d->data, key, one, 0) != 0) {
		rte_tel_data_free(one);
		return false;
	}
	d->entries++;
	d->len += len;
	return true;
}

/* A dictionary of each number below limit, as many as fit; or what there is of one number. */
int
answer_each(const char *params, struct dict *d, unsigned int limit, pthread_mutex_t *mutex,
	fill_fn fill)
{
	struct request request;
	unsigned int i;
	int ret = answer_parse(params, limit, &request);
	bool room = true;

	if (ret < 0)
		return ret;
	pthread_mutex_lock(mutex);
	if (request.alone)
		fill(request.first, d);
	for (i = request.first; i < limit && room && !request.alone; i++) {
		struct rte_tel_data *data = rte_tel_data_alloc();
		struct dict one;

		if (data == NULL) {
			answer_cut(d, i);
			break;
		}
		answer_begin(&one, data);
		if (fill(i, &one))
			room = answer_numbered(d, i, data, one.len);
		else
			rte_tel_data_free(data);
	}
	pthread_mutex_unlock(mutex);
	return 0;
}

int
answer_refuse_parameter(const char *params)
{
	return answer_is_given(params) ? -EINVAL : 0;
}
