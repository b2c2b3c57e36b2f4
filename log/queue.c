/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include "log/queue.h"

_Static_assert(TEXT_MAX + sizeof(struct text) <= TEXT_QUEUE_BYTES, "the longest text must fit");

static void
copy_in(struct text_queue *q, const void *from, size_t len)
{
	size_t at = (size_t)(q->put % TEXT_QUEUE_BYTES);
	size_t first = len < TEXT_QUEUE_BYTES - at ? len : TEXT_QUEUE_BYTES - at;

	memcpy(q->bytes + at, from, first);
	memcpy(q->bytes, (const uint8_t *)from + first, len - first);
	q->put += len;
}

static void
copy_out(struct text_queue *q, void *to, size_t len)
{
	size_t at = (size_t)(q->got % TEXT_QUEUE_BYTES);
	size_t first = len < TEXT_QUEUE_BYTES - at ? len : TEXT_QUEUE_BYTES - at;

	memcpy(to, q->bytes + at, first);
	memcpy((uint8_t *)to + first, q->bytes, len - first);
	q->got += len;
}

bool
text_queue_put(struct text_queue *q, const struct text *t, const char *bytes)
{
	if (t->len > TEXT_MAX || text_queue_used(q) + sizeof(*t) + t->len > TEXT_QUEUE_BYTES)
		return false;
	copy_in(q, t, sizeof(*t));
	copy_in(q, bytes, t->len);
	q->n[t->kind]++;
	return true;
}

bool
text_queue_get(struct text_queue *q, struct text *t, char *bytes)
{
	if (text_queue_used(q) == 0)
		return false;
	copy_out(q, t, sizeof(*t));
	copy_out(q, bytes, t->len);
	q->n[t->kind]--;
	return true;
}
