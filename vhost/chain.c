/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_byteorder.h>
#include <rte_prefetch.h>

#include "vhost/chain.h"

/* Descriptors of a chain; librte_vhost's limit too (BUF_VECTOR_MAX). */
#define CHAIN_MAX 256

_Static_assert(sizeof(struct vring_desc) == sizeof(struct vring_packed_desc) &&
	offsetof(struct vring_desc, len) == offsetof(struct vring_packed_desc, len),
	"address and length are at the same place in both");

/* A chain that is being walked. */
struct walk {
	const struct device *d;
	bool write;
	struct iovec *segment;
	uint16_t n, max;
	uint16_t count; /* descriptors that were read */
	bool overflow;	/* there were more segments than max */
};

static void
add_segment(struct walk *w, uint8_t *at, uint32_t len)
{
	w->overflow |= w->n == w->max;
	if (!w->overflow)
		w->segment[w->n++] = (struct iovec){ at, len };
}

/* Add guest memory that lies in several regions, or outside of all. */
static enum vring_status
add_parts(struct walk *w, uint64_t addr, uint32_t len)
{
	while (len > 0 && !w->overflow) {
		uint32_t part = len;
		uint8_t *at = device_translate(w->d, addr, 1);

		if (at == NULL)
			return VRING_BROKEN;
		while (part > 1 && device_translate(w->d, addr, part) == NULL)
			part /= 2; /* rare, and any split will do */
		add_segment(w, at, part);
		addr += part;
		len -= part;
	}
	return VRING_OK;
}

static enum vring_status
add_descriptor(struct walk *w, uint64_t addr, uint32_t len, uint16_t flags)
{
	uint8_t *at;

	if (!(flags & VRING_DESC_F_WRITE) == w->write || w->count++ == CHAIN_MAX)
		return VRING_BROKEN;
	at = device_translate(w->d, addr, len);
	if (unlikely(at == NULL || len == 0))
		return add_parts(w, addr, len);
	add_segment(w, at, len);
	return VRING_OK;
}

/*
 * Copy memory of the guest that may lie across regions. Returns false if a part of it is in none.
 */
static bool
read_bytes(const struct device *d, uint64_t addr, void *to, uint32_t len)
{
	const void *whole = device_translate(d, addr, len);
	uint32_t k;

	if (likely(whole != NULL)) {
		memcpy(to, whole, len);
		return true;
	}
	for (k = 0; k < len; k++) {
		const uint8_t *byte = device_translate(d, addr + k, 1);

		if (byte == NULL)
			return false;
		((uint8_t *)to)[k] = *byte;
	}
	return true;
}

/*
 * The flags of an entry of a packed virtqueue's table, of which WRITE alone counts (2.7.7). Where
 * the device reads it is not looked at: DPDK's driver (22.11) sets it for the header.
 */
static uint16_t
packed_flags(const struct walk *w, const struct vring_desc *e)
{
	struct vring_packed_desc packed;

	memcpy(&packed, e, sizeof(packed));
	return w->write ? rte_le_to_cpu_16(packed.flags) & VRING_DESC_F_WRITE : 0;
}

/*
 * 2.6.5.3: a table is linked as the descriptors of a split virtqueue are; 2.7.7: or it is in order.
 */
static enum vring_status
walk_table(struct walk *w, uint64_t table, uint32_t bytes, bool linked)
{
	uint32_t entries = bytes / sizeof(struct vring_desc), at = 0;
	const void *whole = device_translate(w->d, table, bytes);
	enum vring_status status;
	struct vring_desc e;

	while (at < entries) {
		uint16_t flags;

		if (likely(whole != NULL))
			e = chain_descriptor(whole, at);
		else if (!read_bytes(w->d, table + at * sizeof(e), &e, sizeof(e)))
			return VRING_BROKEN;
		flags = linked ? e.flags : packed_flags(w, &e);
		if (flags & VRING_DESC_F_INDIRECT)
			return VRING_BROKEN;
		status = add_descriptor(w, e.addr, e.len, flags);
		if (status != VRING_OK)
			return status;
		if (!linked)
			at++;
		else if (e.flags & VRING_DESC_F_NEXT)
			at = e.next;
		else
			return VRING_OK;
	}
	return linked || entries == 0 ? VRING_BROKEN : VRING_OK;
}

void
chain_prefetch_table(const struct device *d, const struct virtqueue *vq, uint16_t head)
{
	struct vring_desc e;
	const void *at;

	if (head >= vq->size)
		return;
	e = chain_descriptor(vq->desc, head);
	at = e.flags & VRING_DESC_F_INDIRECT ? device_translate(d, e.addr, 1) : NULL;
	if (at != NULL)
		rte_prefetch0(at);
}

static enum vring_status
walk_split(struct walk *w, const struct virtqueue *vq, uint16_t index, struct chain *chain)
{
	uint16_t at = chain_head(vq, index);
	enum vring_status status;

	*chain = (struct chain){ at, 1 };
	for (;;) {
		struct vring_desc e;

		if (at >= vq->size)
			return VRING_BROKEN;
		e = chain_descriptor(vq->desc, at);
		if (e.flags & VRING_DESC_F_INDIRECT)
			return e.flags & VRING_DESC_F_NEXT ? VRING_BROKEN
							   : walk_table(w, e.addr, e.len, true);
		status = add_descriptor(w, e.addr, e.len, e.flags);
		if (status != VRING_OK || !(e.flags & VRING_DESC_F_NEXT))
			return status;
		at = e.next;
	}
}

static enum vring_status
walk_packed(struct walk *w, const struct virtqueue *vq, uint16_t index, struct chain *chain)
{
	enum vring_status status;
	uint16_t flags, count = 0;

	do {
		const struct vring_packed_desc *desc = &vq->packed_desc[index & PACKED_INDEX];
		struct vring_packed_desc e;

		flags = rte_le_to_cpu_16(__atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE));
		if (count == 0 && !chain_is_available(flags, index))
			return VRING_EMPTY;
		if (count++ == vq->size)
			return VRING_BROKEN;
		memcpy(&e, desc, sizeof(e));
		rte_compiler_barrier();
		*chain = (struct chain){ rte_le_to_cpu_16(e.id), count };
		if (flags & VRING_DESC_F_INDIRECT)
			return count > 1 || (flags & VRING_DESC_F_NEXT) ? VRING_BROKEN
				: walk_table(w, e.addr, e.len, false);
		status = add_descriptor(w, e.addr, e.len, flags);
		index = vring_advance(vq, index, 1);
	} while (status == VRING_OK && (flags & VRING_DESC_F_NEXT));
	return status;
}

enum vring_status
chain_walk(const struct device *d, const struct virtqueue *vq, uint16_t index, bool write,
	struct iovec *segment, uint16_t *n, uint16_t max, struct chain *chain)
{
	struct walk w = { .d = d, .write = write, .segment = segment, .n = *n, .max = max };
	enum vring_status status = vq->packed ? walk_packed(&w, vq, index, chain)
					      : walk_split(&w, vq, index, chain);

	*n = w.n;
	return status == VRING_OK && w.overflow ? VRING_TOO_LONG : status;
}

bool
chain_pull(struct iovec *segment, uint16_t *n, void *to, uint32_t len)
{
	uint8_t *out = to;
	uint16_t k = 0;

	while (len > 0 && k < *n) {
		size_t part = RTE_MIN((size_t)len, segment[k].iov_len);

		memcpy(out, segment[k].iov_base, part);
		out += part;
		len -= (uint32_t)part;
		segment[k].iov_base = (uint8_t *)segment[k].iov_base + part;
		segment[k].iov_len -= part;
		if (segment[k].iov_len == 0)
			k++;
	}
	*n = (uint16_t)(*n - k);
	memmove(segment, segment + k, *n * sizeof(*segment));
	return len == 0;
}

void
chain_scatter(const struct device *d, const struct iovec *segment, uint32_t off, const void *from,
	uint32_t len)
{
	while (len > 0) {
		uint8_t *at;
		uint32_t part;

		for (; off >= segment->iov_len; segment++)
			off -= (uint32_t)segment->iov_len;
		at = (uint8_t *)segment->iov_base + off;
		part = RTE_MIN(len, (uint32_t)segment->iov_len - off);
		memcpy(at, from, part);
		if (d->logging)
			device_log_write(d, at, part);
		off += part;
		from = (const uint8_t *)from + part;
		len -= part;
	}
}
