/* SPDX-License-Identifier: BSD-3-Clause */
/* Deferred frames, and a guest's receive virtqueue in memory. */
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>

#include "switch/deliver.h"
#include "switch/spread.h"
#include "port/guest.h"
#include "switch/worker.h"
#include "uplink/uplink.h"
#include "unit.h"

#define RING 64
#define BUFFER 4096

static struct rte_mempool *pool;
static struct config cfg;
static struct uplink uplink;
static struct guests guests = { .wake_fd = -1 };
static struct switch_ctx sw;
static struct worker *w;
static struct guest guest[2];
static struct device device[2];

/* The memory of the guest that receives. */
static struct {
	struct vring_desc desc[RING];
	struct vring_avail avail;
	uint16_t head[RING + 1];
	struct vring_used used;
	struct vring_used_elem element[RING];
	uint8_t buffer[RING][BUFFER];
} mem;
static uint16_t seen; /* used elements that were looked at */

static uint16_t arrived[256]; /* lengths, in order */
static unsigned int nb_arrived;

/* The guest has n more buffers, of so many bytes of frame each. */
static void
offer(unsigned int n, uint32_t bytes)
{
	for (; n > 0; n--) {
		uint16_t i = mem.avail.idx % RING;

		mem.desc[i] = (struct vring_desc){ .addr = (uintptr_t)mem.buffer[i],
			.len = bytes + VIRTIO_NET_HDR_LEN, .flags = VRING_DESC_F_WRITE };
		mem.avail.ring[i] = i;
		mem.avail.idx++;
	}
}

/* Read what has arrived, by its header's number of buffers. */
static void
take(void)
{
	while (seen != mem.used.idx) {
		const struct vring_used_elem *e = &mem.used.ring[seen % RING];
		uint16_t i, buffers;
		uint32_t len = 0;

		memcpy(&buffers, &mem.buffer[e->id][10], sizeof(buffers));
		for (i = 0; i < buffers; i++, seen++)
			len += mem.used.ring[seen % RING].len;
		arrived[nb_arrived++] = (uint16_t)(len - VIRTIO_NET_HDR_LEN);
	}
}

static int
create(void **state)
{
	if (start_eal(state) != 0)
		return -1;
	pool = rte_pktmbuf_pool_create("p", 1023, 0, 0, 4096, 0);
	return pool == NULL ? -1 : 0;
}

static int
setup(void **state)
{
	unsigned int i;

	(void)state;
	memset(&mem, 0, sizeof(mem));
	seen = 0;
	nb_arrived = 0;
	sw = (struct switch_ctx){ .cfg = &cfg, .guests = &guests, .uplink = &uplink, .pool = pool };
	w = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*w));
	memset(w, 0, sizeof(*w));
	w->sw = &sw;
	w->retry_timeout = w->pause_timeout = rte_get_tsc_hz(); /* a second: never over by chance */
	memset(guest, 0, sizeof(guest));
	for (i = 0; i < 2; i++) {
		memset(&device[i], 0, sizeof(device[i]));
		device[i].running = true;
		device[i].hdr_len = VIRTIO_NET_HDR_LEN;
		device[i].nb_regions = 1;
		device[i].region[0] = (struct region){ (uintptr_t)&mem, sizeof(mem),
			(uint8_t *)&mem };
		device[i].rx[0] = 1;
		device[i].vq[0] = (struct virtqueue){ .usable = true, .size = RING, .notify_fd = -1,
			.callfd = -1, .desc = mem.desc, .avail = &mem.avail, .used = &mem.used };
		guest[i] = (struct guest){ .device = &device[i], .id = (uint16_t)i,
			.serial = guest_serial(i + 1), .registered = true };
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
		output_mbuf(w, &guest[1], m);
	}
}

static void
flush(void)
{
	w->rounds++;
	output_flush(w);
	take();
}

static void
expect_lengths(unsigned int first, unsigned int n)
{
	unsigned int i;

	take();
	assert_int_equal(nb_arrived, n);
	for (i = 0; i < n; i++)
		assert_int_equal(arrived[i], first + i);
}

#define SENT w->counters.guest[0].tx_ok
#define GOT w->counters.guest[1].rx_ok
#define SENDER_FULL w->counters.guest[0].tx_drop[TX_DROP_GUEST_FULL]
#define RING_FULL w->counters.guest[1].rx_drop[RX_DROP_RING_FULL]

#define TOO_LONG w->counters.guest[1].rx_drop[RX_DROP_TOO_LONG]

static void
test_a_batch_leaves_when_it_is_full(void **state)
{
	(void)state;
	offer(RING, 1500);
	put(60, BURST_MAX - 1);
	take();
	assert_int_equal(nb_arrived, 0);
	put(60 + BURST_MAX - 1, 1);
	expect_lengths(60, BURST_MAX);
	put(60 + BURST_MAX, 3);
	flush();
	assert_int_equal(w->n_dirty, 0);
	expect_lengths(60, BURST_MAX + 3);
	assert_int_equal(SENT, BURST_MAX + 3);
	assert_int_equal(GOT, BURST_MAX + 3);
}

static void
test_full_ring_stays_in_order(void **state)
{
	(void)state;
	offer(5, 1500);
	put(60, 10);
	flush();
	assert_int_equal(w->deferred, 5);
	output_resume(w);
	put(70, 4); /* after those that stayed */
	offer(20, 1500);
	flush();
	expect_lengths(60, 14);
	assert_int_equal(SENT, 14);
	assert_int_equal(RING_FULL, 0);
}

static void
test_full_batch_of_a_full_ring_drops_the_newest(void **state)
{
	(void)state;
	put(60, BURST_MAX + 7);
	offer(RING, 1500);
	flush();
	expect_lengths(60, BURST_MAX);
	assert_int_equal(SENDER_FULL, 7);
	assert_int_equal(RING_FULL, 7);
}

static void
test_the_retry_time_ends_and_is_not_repeated_before_a_burst(void **state)
{
	(void)state;
	w->retry_timeout = 1;
	put(60, 4);
	flush(); /* begins to wait */
	flush(); /* gives up */
	assert_int_equal(RING_FULL, 4);
	w->retry_timeout = rte_get_tsc_hz();
	put(60, 4);
	flush();
	assert_int_equal(RING_FULL, 8);
	assert_int_equal(SENDER_FULL, 8);
	offer(2, 1500);
	put(60, 4);
	flush(); /* it took two: no reason to wait yet */
	assert_int_equal(RING_FULL, 10);
	offer(BURST_MAX, 1500);
	put(60, BURST_MAX);
	put(60, 4);
	flush();
	assert_int_equal(w->deferred, 4);
	output_drop_all(w);
}

static void
test_the_retry_time_is_not_that_since_others_waited(void **state)
{
	(void)state;
	w->retry_timeout = rte_get_tsc_hz() / 100;
	put(60, 1);
	flush();
	output_drop_all(w);
	rte_delay_ms(20);
	w->rounds += 1000;
	put(60, 1);
	flush();
	assert_int_equal(w->deferred, 1);
	output_drop_all(w);
}

static void
test_more_may_wait_for_a_guest_that_is_changed(void **state)
{
	(void)state;
	device[1].paused = true;
	put(60, 1);
	flush();
	put(61, BATCH_MAX + 2);
	assert_int_equal(RING_FULL, 3);
	assert_true(output_holds_floods(w));
	device[1].paused = false;
	offer(RING, 1500);
	flush();
	assert_int_equal(nb_arrived, RING);
	assert_int_equal(arrived[RING - 1], 60 + RING - 1);
	output_drop_all(w);
}

static void
test_nothing_waits_for_a_guest_that_is_stopped_or_disabled(void **state)
{
	(void)state;
	device[1].running = false;
	put(60, 3);
	flush();
	assert_int_equal(w->counters.guest[1].rx_drop[RX_DROP_GUEST_STOPPED], 3);
	assert_int_equal(w->counters.guest[0].tx_drop[TX_DROP_GUEST_STOPPED], 3);
	device[1].disabled = true;
	put(60, 2);
	flush();
	assert_int_equal(w->counters.guest[1].rx_drop[RX_DROP_DISABLED], 2);
	assert_int_equal(w->n_dirty, 0);
}

static void
test_what_stayed_for_a_guest_that_left_is_dropped(void **state)
{
	(void)state;
	put(60, 4);
	flush();
	guest[1].serial = guest_serial(99); /* another guest with the same id */
	offer(RING, 1500);
	output_resume(w);
	flush();
	assert_int_equal(nb_arrived, 0);
	assert_int_equal(SENDER_FULL, 4);
	assert_int_equal(w->counters.guest[1].rx_drop[RX_DROP_RING_FULL], 0);
	assert_int_equal(w->n_dirty, 0);
}

static void
test_what_stayed_for_a_port_that_changed_is_dropped_and_counted(void **state)
{
	(void)state;
	put(60, 4);
	flush();
	guest[1].serial++;
	offer(RING, 1500);
	output_resume(w);
	flush();
	assert_int_equal(nb_arrived, 0);
	assert_int_equal(SENDER_FULL, 4);
	assert_int_equal(w->counters.guest[1].rx_drop[RX_DROP_RING_FULL], 4);
	assert_int_equal(w->n_dirty, 0);
}

static void
test_what_a_guest_sent_before_it_left_is_not_counted_for_the_next(void **state)
{
	(void)state;
	put(60, 4);
	flush();
	guests.by_id[0] = NULL;
	output_resume(w);
	guests.by_id[0] = &guest[0];
	offer(RING, 1500);
	output_resume(w);
	flush();
	assert_int_equal(nb_arrived, 4);
	assert_int_equal(GOT, 4);
	assert_int_equal(SENT, 0);
}

static void
test_too_long_does_not_block_those_after_it(void **state)
{
	(void)state;
	offer(RING, 1522);
	put(1520, 5);
	put(100, 2);
	flush();
	assert_int_equal(nb_arrived, 3 + 2);
	assert_int_equal(TOO_LONG, 2);
	assert_int_equal(w->counters.guest[0].tx_drop[TX_DROP_GUEST_TOO_LONG], 2);
	assert_int_equal(SENT, 5);
}

static void
test_a_full_ring_is_not_taken_for_short_buffers(void **state)
{
	(void)state;
	put(4000, 1);
	put(60, 2);
	flush();
	assert_int_equal(w->deferred, 3);
	assert_int_equal(TOO_LONG, 0);
	offer(RING, 4000);
	flush();
	assert_int_equal(nb_arrived, 3);
}

static void
test_merged_buffers_count_when_all_are_free(void **state)
{
	(void)state;
	device[1].mergeable = true;
	w->retry_timeout = 1;
	offer(RING - 1, 4);
	put(1100, 1); /* more than RING * 16, but there may be more later */
	put(60, 1);
	flush();
	assert_int_equal(w->deferred, 2);
	flush(); /* the time is up: that frame alone is dropped */
	assert_int_equal(RING_FULL, 1);
	expect_lengths(60, 1);
	offer(RING - (RING - 1 - seen), 4);
	put(1100, 1);
	put(61, 1);
	flush();
	assert_int_equal(TOO_LONG, 1);
	expect_lengths(60, 2);
}

/* As when a message ends between the two, which the worker does not wait for. */
static void
test_a_virtqueue_may_be_disabled_after_it_was_chosen(void **state)
{
	const struct run run = { .end = 1, .sender = FROM_GONE, .vring = VRING_RX(1) };
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	enum vring_status status;
	struct burst b;

	(void)state;
	rte_pktmbuf_append(m, 60);
	offer(1, 1500);
	device[1].vq[VRING_RX(1)] = device[1].vq[0];
	burst_of_mbufs(&b, &m, 1);
	assert_int_equal(deliver(w, &guest[1], &b, &run, &status), 0);
	assert_int_equal(status, VRING_PAUSED);
	device[1].rx[0] = 2;
	assert_int_equal(deliver(w, &guest[1], &b, &run, &status), 1);
	deliver_finish(&b, 0);
	expect_lengths(60, 1);
	rte_pktmbuf_free(m);
}

static void
test_flooded_frames_are_not_counted_for_the_sender(void **state)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

	(void)state;
	m->port = FROM_FLOOD;
	rte_pktmbuf_append(m, 60);
	offer(1, 1500);
	output_mbuf(w, &guest[1], m);
	flush();
	assert_int_equal(SENT, 0);
	assert_int_equal(GOT, 1);
}

/* The virtqueue, of many, for a frame of a flow of TCP that has so many bytes of IP. */
static uint16_t
vring_of(const uint16_t *tags, uint32_t nb_tags, uint16_t ip_len)
{
	static const uint8_t ip[] = { 0x45, 0, 0, 0, 0x45, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1,
		10, 0, 0, 2, 4, 5, 6, 7 };
	struct spread s = { .n = QUEUE_PAIR_MAX };
	struct rte_mbuf *m = rte_pktmbuf_alloc(pool);
	static struct burst b;
	uint16_t vring;
	uint8_t *f;
	uint32_t i;

	f = memset(rte_pktmbuf_append(m, 3000), 1, 3000);
	for (i = 0; i < nb_tags; i++)
		memcpy(f + 12 + 4 * i, (uint8_t[]){ (uint8_t)(tags[i] >> 8), (uint8_t)tags[i], 0,
			(uint8_t)i }, 4);
	memcpy(f + 12 + 4 * i, "\x08\x00", 2);
	memcpy(f + 14 + 4 * i, ip, sizeof(ip));
	f[14 + 4 * i + 2] = (uint8_t)(ip_len >> 8);
	f[14 + 4 * i + 3] = (uint8_t)ip_len;
	burst_of_mbufs(&b, &m, 1);
	vring = spread_choose(&s, &b, 0);
	rte_pktmbuf_free(m);
	return vring;
}

static void
test_a_flow_stays_in_its_virtqueue_whatever_its_tags(void **state)
{
	static const uint16_t tags[][2] = { { 0x8100, 0x8100 }, { 0x88a8, 0x8100 },
		{ 0x8100, 0x88a8 }, { 0x88a8, 0x88a8 } };
	const uint16_t right = vring_of(NULL, 0, 1000);
	unsigned int i, n;

	(void)state;
	for (i = 0; i < RTE_DIM(tags); i++) {
		for (n = 1; n <= 2; n++) {
			assert_int_equal(vring_of(tags[i], n, 2047), right);
			assert_int_equal(vring_of(tags[i], n, 2048), right); /* 0x0800: IPv4 */
		}
	}
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_batch_leaves_when_it_is_full),
		T(test_full_ring_stays_in_order),
		T(test_full_batch_of_a_full_ring_drops_the_newest),
		T(test_the_retry_time_ends_and_is_not_repeated_before_a_burst),
		T(test_the_retry_time_is_not_that_since_others_waited),
		T(test_more_may_wait_for_a_guest_that_is_changed),
		T(test_nothing_waits_for_a_guest_that_is_stopped_or_disabled),
		T(test_what_stayed_for_a_guest_that_left_is_dropped),
		T(test_what_stayed_for_a_port_that_changed_is_dropped_and_counted),
		T(test_what_a_guest_sent_before_it_left_is_not_counted_for_the_next),
		T(test_too_long_does_not_block_those_after_it),
		T(test_a_full_ring_is_not_taken_for_short_buffers),
		T(test_merged_buffers_count_when_all_are_free),
		T(test_a_virtqueue_may_be_disabled_after_it_was_chosen),
		T(test_flooded_frames_are_not_counted_for_the_sender),
		T(test_a_flow_stays_in_its_virtqueue_whatever_its_tags),
	};

	return cmocka_run_group_tests(tests, create, NULL);
}
