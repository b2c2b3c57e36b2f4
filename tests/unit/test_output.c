/* SPDX-License-Identifier: BSD-3-Clause */
/* Batches, with a guest's ring in place of librte_vhost's: the linker wraps its calls. */
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_malloc.h>

#include "switch/worker.h"
#include "unit.h"

static struct rte_mempool *pool;
static struct config cfg;
static struct uplink uplink;
static struct guests guests = { .learned_fd = -1 };
static struct switch_ctx sw;
static struct rte_rcu_qsbr *sections;
static struct worker *w;
static struct guest guest[2];
static struct direct *not_ours; /* a guest whose rings librte_vhost has */
static struct vring_avail available;
static struct guest_rings one_ring = { .rx = { 1 }, .tx = { 1 } };

static unsigned int room;	/* frames that the ring takes */
static uint16_t longest;	/* longest frame that it takes */
static unsigned int calls;	/* of enqueue */
static uint16_t arrived[256];	/* lengths, in order */
static unsigned int nb_arrived;

#define RING 8
static union {
	struct vring_desc split[RING];
	struct vring_packed_desc packed[RING];
} desc;
static struct {
	struct vring_avail ring;
	uint16_t head[RING];
} avail;
static uint16_t next_avail; /* as librte_vhost says it */

uint16_t __wrap_rte_vhost_enqueue_burst(int vid, uint16_t queue, struct rte_mbuf **frames,
	uint16_t n);
int __wrap_rte_vhost_get_vring_base(int vid, uint16_t vring, uint16_t *last_avail,
	uint16_t *last_used);
int __wrap_rte_vhost_get_vhost_vring(int vid, uint16_t vring, struct rte_vhost_vring *ring);

int
__wrap_rte_vhost_get_vring_base(int vid, uint16_t vring, uint16_t *last_avail, uint16_t *last_used)
{
	(void)vid;
	(void)vring;
	*last_avail = next_avail;
	*last_used = 0;
	return 0;
}

int
__wrap_rte_vhost_get_vhost_vring(int vid, uint16_t vring, struct rte_vhost_vring *ring)
{
	(void)vid;
	(void)vring;
	*ring = (struct rte_vhost_vring){ .desc = desc.split, .avail = &avail.ring, .size = RING };
	return 0;
}

/* The next buffer of the guest, for librte_vhost and for the direct path. */
static void
start_at(uint16_t index)
{
	next_avail = index;
	available.idx = index;
}

/* The guest has n buffers of so many bytes of frame each, where room and longest say the same. */
static void
offer(unsigned int n, uint32_t bytes)
{
	unsigned int i;

	room = n;
	longest = (uint16_t)bytes;
	start_at(0);
	avail.ring.idx = (uint16_t)n;
	for (i = 0; i < RING; i++) {
		avail.ring.ring[i] = (uint16_t)i;
		desc.split[i] = (struct vring_desc){ .len = bytes + 12 };
	}
}

uint16_t
__wrap_rte_vhost_enqueue_burst(int vid, uint16_t queue, struct rte_mbuf **frames, uint16_t n)
{
	uint16_t i;

	(void)vid;
	(void)queue;
	calls++;
	for (i = 0; i < n && room > 0 && frames[i]->pkt_len <= longest; i++, room--)
		arrived[nb_arrived++] = (uint16_t)frames[i]->pkt_len;
	return i;
}

static int
create(void **state)
{
	if (start_eal(state) != 0)
		return -1;
	pool = rte_pktmbuf_pool_create("p", 255, 0, 0, 4096, 0);
	sections = rte_zmalloc(NULL, rte_rcu_qsbr_get_memsize(1), RTE_CACHE_LINE_SIZE);
	if (pool == NULL || sections == NULL)
		return -1;
	rte_rcu_qsbr_init(sections, 1);
	rte_rcu_qsbr_thread_register(sections, 0);
	return 0;
}

static int
setup(void **state)
{
	unsigned int i;

	(void)state;
	offer(RING, UINT16_MAX);
	room = 1000;
	calls = nb_arrived = 0;
	sw = (struct switch_ctx){ .cfg = &cfg, .guests = &guests, .uplink = &uplink, .pool = pool,
		.sections = sections };
	w = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*w));
	memset(w, 0, sizeof(*w));
	w->sw = &sw;
	w->section.qsbr = sections;
	w->patience = rte_get_tsc_hz(); /* a second: never over by chance */
	memset(guest, 0, sizeof(guest));
	not_ours = calloc(1, sizeof(*not_ours) + 2 * sizeof(not_ours->ring[0]));
	not_ours->never = true;
	not_ours->nb_rings = 2;
	not_ours->hdr_len = 12;
	for (i = 0; i < 2; i++)
		not_ours->ring[i] = (struct direct_ring){ .in_memory = true, .size = 256,
			.callfd = -1, .avail = &available };
	for (i = 0; i < 2; i++) {
		guest[i].id = (uint16_t)i;
		guest[i].serial = i + 1;
		guest[i].registered = true;
		guest[i].rings = &one_ring;
		guest[i].direct = not_ours;
		guests.by_id[i] = &guest[i];
	}
	return 0;
}

/* Every test ends with all mbufs back in the pool. */
static int
teardown(void **state)
{
	(void)state;
	free(w);
	free(not_ours);
	return rte_mempool_avail_count(pool) != pool->size;
}

/* Frames of lengths first, first + 1, ... from guest 0 to guest 1. */
static void
put(unsigned int first, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

		rte_pktmbuf_append(m, (uint16_t)(first + i));
		m->port = 0;
		output_to_guest(w, &guest[1], m);
	}
}

static void
expect_lengths(unsigned int first, unsigned int n)
{
	unsigned int i;

	assert_int_equal(nb_arrived, n);
	for (i = 0; i < n; i++)
		assert_int_equal(arrived[i], first + i);
}

#define SENT w->counters.guest[0].tx_ok
#define GOT w->counters.guest[1].rx_ok
#define SENDER_FULL w->counters.guest[0].tx_drop[TX_DROP_GUEST_FULL]
#define RING_FULL w->counters.guest[1].rx_drop[RX_DROP_RING_FULL]

static void
test_one_call_a_batch(void **state)
{
	(void)state;
	put(60, BURST_MAX - 1);
	assert_int_equal(calls, 0);
	put(60 + BURST_MAX - 1, 1); /* full: leaves at once */
	assert_int_equal(calls, 1);
	put(60 + BURST_MAX, 3);
	output_flush(w);
	assert_int_equal(calls, 2);
	assert_int_equal(w->n_dirty, 0);
	expect_lengths(60, BURST_MAX + 3);
	assert_int_equal(SENT, BURST_MAX + 3);
	assert_int_equal(GOT, BURST_MAX + 3);
}

static void
test_full_ring_stays_in_order(void **state)
{
	(void)state;
	room = 5;
	put(60, 10);
	output_flush(w);
	assert_int_equal(w->kept, 5);
	output_resume(w);
	put(70, 4); /* behind those that stayed */
	room = 100;
	output_flush(w);
	expect_lengths(60, 14);
	assert_int_equal(SENT, 14);
	assert_int_equal(RING_FULL, 0);
}

static void
test_full_batch_of_a_full_ring_drops_the_newest(void **state)
{
	(void)state;
	room = 0;
	put(60, BURST_MAX + 7);
	room = 100;
	output_flush(w);
	expect_lengths(60, BURST_MAX);
	assert_int_equal(SENDER_FULL, 7);
	assert_int_equal(RING_FULL, 7);
}

static void
test_patience_ends_and_is_not_repeated(void **state)
{
	(void)state;
	room = 0;
	w->patience = 1;
	put(60, 4);
	output_flush(w); /* begins to wait */
	output_flush(w); /* gives up */
	assert_int_equal(RING_FULL, 4);
	w->patience = rte_get_tsc_hz();
	put(60, 4);
	output_flush(w); /* stalled: no second wait */
	assert_int_equal(RING_FULL, 8);
	assert_int_equal(SENDER_FULL, 8);
	room = 2;
	put(60, 4);
	output_flush(w); /* took some: waited for again */
	assert_int_equal(w->kept, 2);
	output_drop_all(w);
}

static void
test_what_stayed_for_a_guest_that_left_is_dropped(void **state)
{
	(void)state;
	room = 0;
	put(60, 4);
	output_flush(w);
	guest[1].serial = 99; /* another guest with the same id */
	room = 100;
	output_resume(w);
	output_flush(w);
	assert_int_equal(nb_arrived, 0);
	assert_int_equal(SENDER_FULL, 4);
	assert_int_equal(w->n_dirty, 0);
}

static void
test_what_a_guest_sent_before_it_left_is_not_counted_for_the_next(void **state)
{
	(void)state;
	room = 0;
	put(60, 4);
	output_flush(w);
	guests.by_id[0] = NULL;
	output_resume(w);
	guests.by_id[0] = &guest[0];
	room = 100;
	output_resume(w);
	output_flush(w);
	assert_int_equal(nb_arrived, 4);
	assert_int_equal(GOT, 4);
	assert_int_equal(SENT, 0);
}

static void
test_too_long_does_not_block_those_behind(void **state)
{
	(void)state;
	offer(RING, 1522);
	put(1520, 5);
	put(100, 2);
	output_flush(w);
	assert_int_equal(nb_arrived, 3 + 2);
	assert_int_equal(w->counters.guest[1].rx_drop[RX_DROP_TOO_LONG], 2);
	assert_int_equal(w->counters.guest[0].tx_drop[TX_DROP_GUEST_TOO_LONG], 2);
	assert_int_equal(SENT, 5);
}

#define TOO_LONG w->counters.guest[1].rx_drop[RX_DROP_TOO_LONG]

static void
test_a_full_ring_is_not_taken_for_short_buffers(void **state)
{
	(void)state;
	offer(0, 1522);
	put(4000, 1);
	put(60, 2);
	output_flush(w);
	assert_int_equal(w->kept, 3);
	assert_int_equal(TOO_LONG, 0);
	offer(RING, 4000);
	output_flush(w);
	assert_int_equal(nb_arrived, 3);
}

static void
test_the_length_of_buffers_is_the_ring_s(void **state)
{
	(void)state;
	offer(2, 0); /* the next buffer is the fourth, a chain of two descriptors */
	avail.ring.idx = 5;
	start_at(3);
	desc.split[3] = (struct vring_desc){ .len = 12, .flags = VRING_DESC_F_NEXT, .next = 5 };
	desc.split[5] = (struct vring_desc){ .len = 99 };
	put(100, 1);
	output_flush(w);
	assert_int_equal(TOO_LONG, 1);
	put(99, 1);
	output_flush(w); /* fits, though it was not taken now */
	assert_int_equal(TOO_LONG, 1);
	assert_int_equal(w->kept, 1);
	output_drop_all(w);
}

static void
test_a_ring_that_is_not_in_memory_is_not_read(void **state)
{
	(void)state;
	offer(0, 0);
	avail.ring.idx = 5;
	start_at(3);
	desc.split[3] = (struct vring_desc){ .len = 12 };
	not_ours->ring[0].in_memory = false;
	put(100, 1);
	output_flush(w);
	assert_int_equal(TOO_LONG, 0);
	assert_int_equal(w->kept, 1);
	not_ours->ring[0].in_memory = true;
	output_flush(w);
	assert_int_equal(TOO_LONG, 1);
}

static void
test_merged_buffers_count_when_all_are_free(void **state)
{
	(void)state;
	guest[1].mergeable = true;
	w->patience = 1;
	offer(RING - 1, 88);
	put(1000, 1); /* more than RING * 100, but there may be more later */
	put(60, 1);
	output_flush(w);
	assert_int_equal(w->kept, 2);
	output_flush(w); /* patience is over: that frame alone is dropped */
	assert_int_equal(RING_FULL, 1);
	expect_lengths(60, 1);
	avail.ring.idx = RING;
	put(1000, 1);
	put(61, 1);
	output_flush(w);
	assert_int_equal(TOO_LONG, 1);
	expect_lengths(60, 2);
}

static void
test_buffers_of_a_packed_ring(void **state)
{
	unsigned int i;

	(void)state;
	guest[1].features = RTE_BIT64(VIRTIO_F_RING_PACKED);
	offer(0, 0);
	for (i = 0; i < RING; i++) /* of the first lap: not available in the second */
		desc.packed[i] = (struct vring_packed_desc){ .len = 112,
			.flags = 1 << VRING_PACKED_DESC_F_AVAIL };
	start_at(6);
	put(101, 1);
	output_flush(w);
	assert_int_equal(w->kept, 1);
	assert_int_equal(TOO_LONG, 0);
	start_at(6 | 1 << 15);
	output_flush(w);
	assert_int_equal(TOO_LONG, 1);
	desc.packed[6].flags |= VRING_DESC_F_NEXT; /* with the one after it */
	put(212, 1);
	output_flush(w);
	assert_int_equal(TOO_LONG, 1);
	output_drop_all(w);
}

static void
test_flooded_frames_are_not_counted_for_the_sender(void **state)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	(void)state;
	m->port = FROM_FLOOD;
	rte_pktmbuf_append(m, 60);
	output_to_guest(w, &guest[1], m);
	output_flush(w);
	assert_int_equal(SENT, 0);
	assert_int_equal(GOT, 1);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_one_call_a_batch),
		T(test_full_ring_stays_in_order),
		T(test_full_batch_of_a_full_ring_drops_the_newest),
		T(test_patience_ends_and_is_not_repeated),
		T(test_what_stayed_for_a_guest_that_left_is_dropped),
		T(test_what_a_guest_sent_before_it_left_is_not_counted_for_the_next),
		T(test_too_long_does_not_block_those_behind),
		T(test_a_full_ring_is_not_taken_for_short_buffers),
		T(test_the_length_of_buffers_is_the_ring_s),
		T(test_a_ring_that_is_not_in_memory_is_not_read),
		T(test_merged_buffers_count_when_all_are_free),
		T(test_buffers_of_a_packed_ring),
		T(test_flooded_frames_are_not_counted_for_the_sender),
	};

	return cmocka_run_group_tests(tests, create, NULL);
}
