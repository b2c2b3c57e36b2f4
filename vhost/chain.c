/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_byteorder.h>

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

/* Add guest memory, one segment for each region that it lies in. */
static enum vring_status
add_memory(struct walk *w, uint64_t addr, uint32_t len)
{
	while (len > 0 && !w->overflow) {
		uint32_t part = len;
		uint8_t *at = device_translate(w->d, addr, 1);

		if (at == NULL)
			return VRING_BROKEN;
		while (part > 1 && device_translate(w->d, addr, part) == NULL)
			part /= 2; /* across regions: rare, and any split will do */
		w->overflow = w->n == w->max;
		if (!w->overflow)
			w->segment[w->n++] = (struct iovec){ at, part };
		addr += part;
		len -= part;
	}
	return VRING_OK;
}

static enum vring_status
add_descriptor(struct walk *w, uint64_t addr, uint32_t len, uint16_t flags)
{
	if (!(flags & VRING_DESC_F_WRITE) == w->write || w->count++ == CHAIN_MAX)
		return VRING_BROKEN;
	return add_memory(w, addr, len);
}

/* A descriptor of an indirect table, which may lie across regions. Returns false outside of memory. */
static bool
read_indirect(const struct device *d, uint64_t table, uint32_t i, struct vring_desc *desc)
{
	uint64_t addr = table + i * sizeof(*desc);
	const void *whole = device_translate(d, addr, sizeof(*desc));
	unsigned int k;

	if (likely(whole != NULL)) {
		*desc = chain_descriptor(whole, 0);
		return true;
	}
	for (k = 0; k < sizeof(*desc); k++) {
		const uint8_t *byte = device_translate(d, addr + k, 1);

		if (byte == NULL)
			return false;
		((uint8_t *)desc)[k] = *byte;
	}
	return true;
}

/*
 * The flags of an entry of a packed virtqueue's table, of which WRITE alone counts (2.7.7). Where the
 * device reads it is not looked at: DPDK's driver (22.11) sets it for the header.
 */
static uint16_t
packed_flags(const struct walk *w, const struct vring_desc *e)
{
	struct vring_packed_desc packed;

	memcpy(&packed, e, sizeof(packed));
	return w->write ? rte_le_to_cpu_16(packed.flags) & VRING_DESC_F_WRITE : 0;
}

/* 2.6.5.3: a table is linked as the descriptors of a split virtqueue are; 2.7.7: or it is in order. */
static enum vring_status
walk_table(struct walk *w, uint64_t table, uint32_t bytes, bool linked)
{
	uint32_t entries = bytes / sizeof(struct vring_desc), at = 0;
	enum vring_status status;
	struct vring_desc e;

	while (at < entries) {
		uint16_t flags;

		if (!read_indirect(w->d, table, at, &e))
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

/* VIRTIO 1.1, 2.7.1: both bits differ, and the first is the driver's wrap counter. */
static bool
is_available(uint16_t flags, uint16_t index)
{
	bool avail = flags & (1 << VRING_PACKED_DESC_F_AVAIL);
	bool used = flags & (1 << VRING_PACKED_DESC_F_USED);

	return avail != used && avail == !!(index & PACKED_WRAP);
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
		if (count == 0 && !is_available(flags, index))
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
