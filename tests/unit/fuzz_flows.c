/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Flows between guests of several queue pairs, by two workers at once: fuzz_flows TURNS [SEED]
 *
 * Four guests made of plain memory (fuzz_memory.h), two at each worker, which run as in the
 * program. All send to all, and now and then to all at once: frames that ask for nothing, for a
 * checksum and for segments, of flows that are numbered. Meanwhile virtqueues are enabled and
 * disabled, and guests start again with other virtqueues and other features. What arrives must be
 * exact, each flow in order in each virtqueue, and as long as nothing changes in one of them;
 * and each frame is counted once by who sends it and by who receives it.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_vhost.h>

#include "port/guest.h"
#include "switch/worker.h"
#include "uplink/uplink.h"

int log_type_config, log_type_data, log_type_uplink;

enum { NB = 4, WORKERS = 2 };

#define SENT_MAX 16u /* frames that wait in a transmit virtqueue, each in a slot */
#define SLOT 1024u
#define HIGH_SIZE (PAIRS * SENT_MAX * SLOT)
#define MAY_BE_UNSEEN(id) true
#include "tests/unit/fuzz_receive.h"

#define FLOWS 32u /* the last few of them are of floods */
#define FLOODS 4u
#define MSS 200u
#define PARTS 4u /* segments of a frame, at most */

/* What a frame has at the beginning of each of its segments. */
struct label {
	uint32_t number; /* of its flow; times PARTS, and the segment's */
	uint32_t era;	 /* when it was sent: no virtqueue has changed since the last one */
};

static struct guest guest[NB];
static struct device device[NB];
static struct guests guests = { .wake_fd = -1 };
static struct config cfg = { .vm2vm = VM2VM_SOFTWARE, .tso = 1, .tx_csum = true, .rx_retry = 1,
	.rx_retry_num = 4, .rx_retry_delay = 15 };
static struct uplink uplink;
static struct switch_ctx sw;
static struct worker *worker[WORKERS];
static struct rte_mempool *pool;

static uint32_t era = 1, number[NB][NB][FLOWS];
static uint32_t sent_slot[NB][PAIRS];
static uint64_t sent[NB], got[NB]; /* whole frames */

/* What has arrived of a flow. */
static struct {
	uint32_t last[RINGS], era;
	unsigned int ring; /* in that era */
} seen[NB][NB][FLOWS];

/* The frame of a flow with this number: the same whenever it is asked for. */
static void
make(struct made *m, unsigned int from, unsigned int to, unsigned int flow, struct label label)
{
	static const enum kind kinds[] = { UDP4, TCP4, UDP6, TSO4, TSO6 };
	const uint64_t all = UINT64_MAX;
	uint32_t n = label.number / PARTS, r = n * 2654435761u ^ flow << 9, i;
	enum kind kind = kinds[flow % RTE_DIM(kinds)];
	uint32_t payload = 8 + r % (MSS - 8); /* each segment has a label */

	if (is_tso(kind))
		payload += MSS * (1 + (r >> 8) % (PARTS - 1));

	make_frame(m, kind, flow >= FLOWS - FLOODS ? &all : &guest[to].mac, &guest[from].mac,
		(uint16_t)(flow + FLOWS * from), (uint8_t)n, payload, MSS, 0, false);
	for (i = 0; i + sizeof(label) <= payload; i += MSS, label.number++)
		memcpy(m->f + m->headers + i, &label, sizeof(label));
	if (!is_tso(kind) && r & 1 << 20) { /* a frame that asks for nothing */
		m->kind = PLAIN;
		m->needs = 0;
		m->header = (struct virtio_net_hdr){ 0 };
	}
}

/* Segments of a frame. */
static uint32_t
parts_of(const struct made *m)
{
	return is_tso(m->kind) ? (m->len - m->headers + MSS - 1) / MSS : 1;
}

/* A frame has arrived. */
static void
look_at(unsigned int to, unsigned int ring, const struct got *g)
{
	bool v6 = get16(g->f + 12) == 0x86dd, tcp = g->f[v6 ? 20 : 23] == 6;
	uint32_t l4 = v6 ? 54 : 34, k, n, before;
	unsigned int id = get16(g->f + l4) / 3, from = id / FLOWS, flow = id % FLOWS;
	static struct made m;
	struct label label;

	check(g->len >= l4 + 8 + sizeof(label) && from < NB && from != to, "a frame of nobody");
	memcpy(&label, g->f + l4 + (tcp ? 20 : 8), sizeof(label));
	k = label.number % PARTS;
	label.number -= k;
	make(&m, from, to, flow, label);
	check(is_right(g, &m, k, mem[to].features, true), "a frame was altered");
	n = g->header.gso_type ? parts_of(&m) : 1;
	got[to] += k + n == parts_of(&m);
	before = seen[to][from][flow].last[ring];
	if (label.era == era && seen[to][from][flow].era == era) {
		check(seen[to][from][flow].ring == ring, "one flow came in two rings");
	} else if (label.era == era) {
		seen[to][from][flow].era = era;
		seen[to][from][flow].ring = ring;
	}
	check(label.number + k >= before, "a frame came after a later one, or twice");
	seen[to][from][flow].last[ring] = label.number + k + n;
}

/* Take what a guest was given. Returns whether that is anything. */
static bool
take(unsigned int id)
{
	static struct got g;
	bool any = false;
	unsigned int i;
	uint32_t len;
	uint16_t head;

	for (i = 0; i < 2u * mem[id].pairs; i++) {
		while (i % 2 == 0 ? take_frame(id, i, &g)
				: driver_take(&mem[id].ring[i], &head, &len)) {
			if (i % 2 == 0)
				look_at(id, i, &g);
			else
				sent[id]++;
			any = true;
		}
	}
	return any;
}

static void
put(unsigned int id)
{
	unsigned int i, to, flow;
	static struct made m;

	for (i = below(8); i > 0; i--) {
		unsigned int pair, ring;
		struct driver_ring *r;
		uint32_t off;

		to = (id + 1 + below(NB - 1)) % NB;
		flow = below(below(8) ? FLOWS - FLOODS : FLOWS);
		to = flow >= FLOWS - FLOODS ? 0 : to; /* floods have one number for all */
		pair = flow % mem[id].pairs; /* a flow leaves by one virtqueue */
		ring = VRING_TX(pair);
		r = &mem[id].ring[ring];
		if (r->in_use + 2u > SENT_MAX)
			continue;
		off = LOW_SIZE + (pair * SENT_MAX + sent_slot[id][pair]++ % SENT_MAX) * SLOT;
		make(&m, id, to, flow, (struct label){ PARTS * number[id][to][flow]++, era });
		check(offer(&mem[id], ring, off, write_frame(&mem[id], off, &m), 1 + below(2),
			r->in_use == 0 && below(2)), "a transmit ring is too small");
	}
}

/* Other virtqueues and features. The device is paused. */
static void
renew_rings(unsigned int id)
{
	static const uint16_t sizes[] = { 100, 200, BUFFER };
	uint64_t features = next_random(&rng) & (BIT(VIRTIO_F_RING_PACKED) |
		BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_NET_F_MRG_RXBUF) |
		BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6));
	unsigned int i, from, flow;

	features |= BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) |
		BIT(VIRTIO_NET_F_HOST_TSO6) | (below(2) ? BIT(VIRTIO_NET_F_GUEST_CSUM) : 0);
	reset_rings(id, features, RING);
	mem[id].buffer = features & BIT(VIRTIO_NET_F_MRG_RXBUF) ? sizes[below(3)] : 2048;
	for (from = 0; from < NB; from++) {
		for (flow = 0; flow < FLOWS; flow++)
			memset(&seen[id][from][flow], 0, sizeof(seen[0][0][0]));
	}
	for (i = 0; i < PAIRS; i++)
		sent_slot[id][i] = 0;
}

/* A message for a guest: it starts again, a virtqueue of it is enabled or disabled, or nothing. */
static void
change(unsigned int id)
{
	uint16_t vring = (uint16_t)below(2u * mem[id].pairs);

	era++;
	switch (below(4)) {
	case 0:
		device_pause(&device[id]);
		take(id);
		renew_rings(id);
		device_set_running(&device[id], true);
		device_resume(&device[id]);
		break;
	case 1:
		device_pause(&device[id]);
		device_resume(&device[id]);
		break;
	default:
		device_enable_ring(&device[id], vring, below(3) > 0);
	}
	era++;
}

/* Buffers of some or all that a guest can have. */
static void
feed(unsigned int id, bool all)
{
	uint32_t most = mem[id].buffer > BUFFER ? BUFFERS_RING / 2048 : RING;

	make_room(id, all || below(4) ? most : below(most));
	check(!device_is_disabled(&device[id]), "a guest was disabled");
}

static void
create_guest(unsigned int id)
{
	const uint8_t mac[8] = { 2, 0, 0, 0, 0, (uint8_t)id };
	struct guest_set *mine = guests.of_worker[id % WORKERS];
	unsigned int i;

	mem[id].low = calloc(1, LOW_SIZE);
	mem[id].high = calloc(1, HIGH_SIZE);
	renew_rings(id);
	device_open(&device[id], (int)id, "", NULL, sw.rcu);
	device[id].has_memory = true;
	for (i = 0; i < RINGS; i++)
		device_enable_ring(&device[id], (uint16_t)i, true);
	device_set_running(&device[id], true);
	guest[id] = (struct guest){ .serial = guest_serial(id + 1), .id = (uint16_t)id,
		.registered = true, .vlan = (uint16_t)(VLAN_TAG_BASE + id),
		.device = &device[id] };
	memcpy(&guest[id].mac, mac, sizeof(mac));
	check(fdb_add(guests.fdb, guest[id].mac, (uint16_t)id) == 0, "fdb_add");
	guests.by_id[id] = &guest[id];
	guests.all->guest[guests.all->n++] = &guest[id];
	mine->guest[mine->n++] = &guest[id];
}

static struct guest_set *
empty_set(void)
{
	return calloc(1, sizeof(struct guest_set) + NB * sizeof(struct guest *));
}

static void
start(char *program)
{
	char *eal[] = { program, (char *)(uintptr_t)"--no-huge", (char *)(uintptr_t)"-m",
		(char *)(uintptr_t)"64", (char *)(uintptr_t)"--no-pci",
		(char *)(uintptr_t)"--no-shconf", (char *)(uintptr_t)"--no-telemetry",
		(char *)(uintptr_t)"--log-level=critical", NULL };
	unsigned int i;

	check(rte_eal_init(RTE_DIM(eal) - 1, eal) >= 0, "EAL");
	pool = rte_pktmbuf_pool_create("p", 4095, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	sw = (struct switch_ctx){ .cfg = &cfg, .guests = &guests, .uplink = &uplink, .pool = pool,
		.finishes = true, .rcu = rte_zmalloc(NULL, rte_rcu_qsbr_get_memsize(WORKERS),
			RTE_CACHE_LINE_SIZE) };
	rte_rcu_qsbr_init(sw.rcu, WORKERS);
	guests.fdb = fdb_create(2 * GUEST_MAX);
	guests.all = guests.shared = empty_set();
	for (i = 0; i < WORKERS; i++) {
		rte_rcu_qsbr_thread_register(sw.rcu, i);
		worker[i] = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*worker[i]));
		memset(worker[i], 0, sizeof(*worker[i]));
		worker[i]->index = i;
		worker[i]->sw = &sw;
		guests.of_worker[i] = empty_set();
	}
	for (i = 0; i < NB; i++)
		create_guest(i);
}

static void *
run_worker(void *arg)
{
	worker_run(arg);
	return NULL;
}

/* Let all that is under way arrive. */
static void
finish(void)
{
	uint64_t deadline = rte_rdtsc() + 60 * rte_get_tsc_hz();
	unsigned int id, i, left = 1;

	era++;
	for (id = 0; id < NB; id++) {
		for (i = 0; i < RINGS; i++)
			device_enable_ring(&device[id], (uint16_t)i, true);
	}
	while (left > 0) {
		left = pool->size - rte_mempool_avail_count(pool);
		for (id = 0; id < NB; id++) {
			take(id);
			feed(id, true);
			for (i = 1; i < 2u * mem[id].pairs; i += 2)
				left += mem[id].ring[i].in_use;
		}
		check(rte_rdtsc() < deadline, "frames or mbufs are stuck");
	}
}

/* Each frame is counted once on each side. Returns how many arrived. */
static uint64_t
look_at_counters(void)
{
	unsigned int id, i, why;
	uint64_t all = 0;

	for (id = 0; id < NB; id++) {
		uint64_t tx = 0, rx = 0;

		for (i = 0; i < WORKERS; i++) {
			const struct guest_counters *c = &worker[i]->counters.guest[id];

			rx += c->rx_ok;
			tx += c->tx_ok;
			for (why = 0; why < TX_DROP_MAX; why++)
				tx += c->tx_drop[why];
		}
		take(id);
		check(tx == sent[id], "a frame was not counted for its sender, or twice");
		check(rx == got[id], "a frame was not counted for its receiver, or twice");
		all += rx;
	}
	return all;
}

int
main(int argc, char **argv)
{
	uint64_t turns = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000, turn, changes = 0, all;
	pthread_t thread[WORKERS];
	unsigned int i;

	rng = argc > 2 ? strtoull(argv[2], NULL, 10) * 2 + 1 : 88172645463325252ull;
	start(argv[0]);
	for (i = 0; i < WORKERS; i++)
		check(pthread_create(&thread[i], NULL, run_worker, worker[i]) == 0, "thread");
	for (turn = 0; turn < turns; turn++) {
		bool any = false;

		for (i = 0; i < NB; i++) {
			any |= take(i);
			feed(i, false);
			put(i);
		}
		if (!any)
			sched_yield(); /* workers may have no CPU of their own */
		if (below(256) == 0) {
			change(below(NB));
			changes++;
		}
	}
	finish();
	__atomic_store_n(&sw.stop, true, __ATOMIC_RELAXED);
	for (i = 0; i < WORKERS; i++)
		pthread_join(thread[i], NULL);
	all = look_at_counters();
	printf("%" PRIu64 " turns, %" PRIu64 " changes, %" PRIu64 " frames arrived\n", turns,
		changes, all);
	fflush(stdout);
	check(all > turns / 8, "too little was tried");
	return EXIT_SUCCESS;
}
