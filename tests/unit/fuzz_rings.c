/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Virtqueues of guests that break every rule: fuzz_rings BURSTS [SEED]
 *
 * Three guests made of plain memory (fuzz_memory.h), with one queue pair to four. Guest EVIL sends
 * and receives by virtqueues, split and packed, of 1 to 1024 entries, that are first filled
 * properly, by chains of all shapes, and then altered at random; half of the time another thread
 * goes on altering them while they are in use. What its frames ask for is altered too, in all
 * fields. GOOD sends to EVIL and to PEER all the while, plain frames and such that ask for a
 * checksum or segments (requests.h): what PEER gets must be exact, in order and all of it, and
 * the memory of GOOD that nobody may write must stay as it was. Whatever PEER gets, from whom ever,
 * asks for nothing that it did not negotiate. Frames come from an uplink too, for all three, in
 * mbufs of one segment and of several. Messages pause GOOD and PEER in the middle of all that, and
 * PEER comes back with other features while frames wait for it.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_vhost.h>

#include "switch/deliver.h"
#include "switch/forward.h"
#include "port/guest.h"
#include "switch/worker.h"
#include "uplink/uplink.h"


int log_type_config, log_type_data, log_type_uplink;

enum { EVIL, GOOD, PEER, NB };

#include "tests/unit/requests.h"
#include "tests/unit/fuzz_memory.h"
#include "tests/unit/fuzz_peer.h"

#define FRAME 480u /* longer ones are copied in another way (switch/copy.h) */

static struct guest guest[NB];
static struct device device[NB];
static struct guests guests = { .wake_fd = -1 };
static struct config cfg = { .vm2vm = VM2VM_SOFTWARE, .tso = 1, .tx_csum = true };
static struct uplink uplink;
static struct switch_ctx sw;
static struct worker *w;
static struct rte_mempool *pool;
static bool scribble, end;

static void
create_guest(unsigned int id)
{
	struct memory *m = &mem[id];
	const struct rte_ether_hdr eth = { .dst_addr = { { 2, 0, 0, 0, 0, (uint8_t)id } } };
	unsigned int i;

	m->low = calloc(1, LOW_SIZE);
	m->high = calloc(1, HIGH_SIZE);
	m->buffer = 2048;
	reset_rings(id, id == GOOD ? BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) |
		BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN) : 0, RING);
	device_open(&device[id], (int)id, "", NULL, sw.rcu);
	device[id].has_memory = true;
	for (i = 0; i < RINGS; i++)
		device_enable_ring(&device[id], (uint16_t)i, true);
	device_set_running(&device[id], true);
	guest[id] = (struct guest){ .serial = guest_serial(id + 1), .id = (uint16_t)id,
		.vlan = (uint16_t)(VLAN_TAG_BASE + id), .registered = true,
		.mac = fdb_key(&eth.dst_addr), .device = &device[id] };
	check(fdb_add(guests.fdb, guest[id].mac, (uint16_t)id) == 0, "fdb_add");
	guests.by_id[id] = &guest[id];
}

/* Any kind of frame, for one of the guests or for all. */
static void
make_any(struct made *m, enum kind kind, unsigned int from, unsigned int to, uint16_t flow,
	uint8_t fill)
{
	const uint64_t all = UINT64_MAX;
	bool small = below(4) == 0;
	uint32_t payload = !is_tso(kind) ? below(FRAME - 62) : 1 + below(small ? 64 : 1200);

	make_frame(m, kind, to < NB ? &guest[to].mac : &all, &guest[from].mac, flow, fill, payload,
		(uint16_t)(small ? 8 + below(8) : 150 + below(1200)), 4 * below(11), below(4) == 0);
}

static enum kind
any_kind(void)
{
	return below(2) ? below(KINDS) : PLAIN;
}

/* Somewhere where a buffer fits; now and then across the two regions. */
static uint32_t
somewhere(void)
{
	return below(8) == 0 ? LOW_SIZE - 1 - below(BUFFER) :
		BUFFERS_OFF + below((LOW_SIZE + HIGH_SIZE - BUFFERS_OFF - 2048) / BUFFER) * BUFFER;
}

/* Alter one field of what a frame asks for, or a byte of its headers. */
static void
alter_request(struct made *m)
{
	static const uint16_t odd[] = { 0, 1, 3, 4, 5, 6, 7, 8, 13, 14, 16, 34, 54, 0x80, 0x81,
		0x84, 0x7fff, 0x8000, 0xfffe, 0xffff };
	struct virtio_net_hdr *h = &m->header;
	uint16_t value = (uint16_t)(below(4) ? odd[below(RTE_DIM(odd))]
		: below(2) ? m->len - below(4) : below(1u << 16));

	switch (below(7)) {
	case 0:
		h->flags = (uint8_t)value;
		break;
	case 1:
		h->gso_type = (uint8_t)value;
		break;
	case 2:
		h->gso_size = value;
		break;
	case 3:
		h->csum_start = value;
		break;
	case 4:
		h->csum_offset = value;
		break;
	case 5:
		h->hdr_len = value;
		break;
	default:
		m->f[12 + below(60)] = (uint8_t)value;
		break;
	}
}

static const uint64_t nasty[] = { 0, 1, 2, 11, 12, 25, 26, 63, 64, 65, 0x7fff, 0x8000, 0xffff,
	65536, 0x7fffffff, 0xfffffff0, 0xffffffff, GUEST_BASE, GUEST_BASE - 1,
	GUEST_BASE + LOW_SIZE - 1, GUEST_BASE + LOW_SIZE, GUEST_BASE + LOW_SIZE + HIGH_SIZE - 1,
	GUEST_BASE + LOW_SIZE + HIGH_SIZE, GUEST_BASE + TABLES_OFF, GUEST_BASE + TABLES_OFF + 1,
	UINT64_MAX, UINT64_MAX - 15, UINT64_MAX - GUEST_BASE };

/* Alter one field of EVIL's virtqueues or tables, or one byte of a buffer. */
static void
alter(uint64_t *state)
{
	struct memory *m = &mem[EVIL];
	uint64_t r = next_random(state), value = nasty[(r >> 8) % RTE_DIM(nasty)];
	struct driver_ring *ring = &m->ring[(r & 1) + 2 * (r >> 20) % (2u * m->pairs)];
	uint32_t slot = (uint32_t)(r >> 40) % ring->size;
	struct vring_desc *tables = (struct vring_desc *)(void *)(m->low + TABLES_OFF);
	struct vring_desc *d = r & 2 ? &ring->desc[slot] :
		&tables[(r >> 40) % (TABLES * INDIRECT)];

	if (r & 4)
		value = next_random(state);
	switch ((r >> 3) % 8) {
	case 0:
		__atomic_store_n(&d->addr, value, __ATOMIC_RELAXED);
		break;
	case 1:
		__atomic_store_n(&d->len, (uint32_t)value, __ATOMIC_RELAXED);
		break;
	case 2: /* packed: the id */
		__atomic_store_n(&d->flags, (uint16_t)value, __ATOMIC_RELAXED);
		break;
	case 3: /* packed: the flags */
		__atomic_store_n(&d->next, (uint16_t)value, __ATOMIC_RELAXED);
		break;
	case 4: /* packed: memory that is not used, or event suppression */
		__atomic_store_n(&ring->avail->ring[slot], (uint16_t)value, __ATOMIC_RELAXED);
		break;
	case 5:
		if ((r >> 60) == 0) /* most jumps of the index end it at once */
			__atomic_store_n(&ring->avail->idx, (uint16_t)value, __ATOMIC_RELAXED);
		break;
	case 6: /* what a frame asks for, or its headers */
		*host(m, BUFFERS_OFF + (uint32_t)(r >> 40) % ((LOW_SIZE - BUFFERS_OFF) / BUFFER) *
			BUFFER + (uint32_t)(r >> 8) % 80) = (uint8_t)value;
		break;
	default: /* the frame itself */
		*host(m, BUFFERS_OFF + (uint32_t)(r >> 40) % (LOW_SIZE + HIGH_SIZE - BUFFERS_OFF)) =
			(uint8_t)value;
		break;
	}
}

static void *
scribbler(void *arg)
{
	uint64_t state = *(uint64_t *)arg;

	while (!__atomic_load_n(&end, __ATOMIC_RELAXED)) {
		if (__atomic_load_n(&scribble, __ATOMIC_RELAXED))
			alter(&state);
		else
			sched_yield();
	}
	return NULL;
}

/* Until there is nothing left: a burst ends before a frame that is not as simple as the first. */
static void
poll_ring(unsigned int id, uint16_t vring)
{
	static struct burst b;
	struct device *d = &device[id];
	uint16_t done = 1;

	while (done > 0 && !device_is_disabled(d)) {
		burst_of_vring(&b, d, &d->vq[vring]);
		if (b.status == VRING_BROKEN && b.n == 0)
			guests_disable(&guests, &guest[id], GUEST_REPORT_BROKEN_TRANSMIT);
		done = b.n > 0 ? forward_from_guest(w, &guest[id], &b)
			: b.status == VRING_RUNT || b.status == VRING_TOO_LONG;
		deliver_finish(&b, done);
		output_flush(w);
		w->rounds++;
	}
}

static void
poll(unsigned int id)
{
	uint16_t pair;

	for (pair = 0; pair < mem[id].pairs; pair++)
		poll_ring(id, VRING_TX(pair));
	rte_rcu_qsbr_quiescent(sw.rcu, 0);
}

/* Frames of an uplink, for any of the guests, and with tags of nobody. */
static void
uplink_turn(void)
{
	struct rte_mbuf *frames[8], *m;
	uint16_t i, n = (uint16_t)(1 + below(RTE_DIM(frames)));

	for (i = 0; i < n; i++) {
		uint32_t to = below(8) ? EVIL : below(NB + 1), len = 18 + below(FRAME), k;
		uint16_t tag = rte_cpu_to_be_16((uint16_t)(VLAN_TAG_BASE + to));
		uint8_t *at;

		frames[i] = m = rte_pktmbuf_alloc(pool);
		check(m != NULL, "mbufs are missing");
		at = (uint8_t *)rte_pktmbuf_append(m, (uint16_t)len);
		memset(at, 0, len);
		memcpy(at, &guest[to % NB].mac, 6);
		memcpy(at + 12, "\x81\x00", 2);
		memcpy(at + 14, &tag, 2);
		for (k = below(4); k > 0; k--) {
			struct rte_mbuf *more = rte_pktmbuf_alloc(pool);

			check(more != NULL, "mbufs are missing");
			memset(rte_pktmbuf_append(more, 100), 1, 100);
			rte_pktmbuf_chain(m, more);
		}
	}
	forward_from_uplink(w, GUEST_MAX, frames, n);
	output_flush(w);
	w->rounds++;
}

/* Features at random, of those in a mask. */
static uint64_t
some_of(uint64_t mask)
{
	return mask & next_random(&rng);
}

/* Virtqueues of another kind, and another view of offloads. */
static void
renew_rings(unsigned int id)
{
	static const uint16_t sizes[] = { 100, 200, BUFFER, 2048 };
	const uint64_t offloads = BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_HOST_TSO4) |
		BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN);
	uint64_t features = some_of(BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_RING_F_EVENT_IDX));
	bool packed = features & BIT(VIRTIO_F_RING_PACKED);
	uint16_t size = packed && below(2) ? 48 : RING;

	if (id == GOOD) {
		reset_rings(id, features | offloads, size);
		return;
	}
	features |= some_of(offloads | BIT(VIRTIO_NET_F_MRG_RXBUF) | BIT(VIRTIO_NET_F_GUEST_TSO4) |
		BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN));
	features |= below(4) ? BIT(VIRTIO_NET_F_GUEST_CSUM) : 0;
	features |= below(8) ? 0 : BIT(VHOST_F_LOG_ALL);
	if (id == EVIL) {
		reset_rings(id, features, 0);
		return;
	}
	mem[id].buffer = 2048;
	if (features & BIT(VIRTIO_NET_F_MRG_RXBUF))
		mem[id].buffer = sizes[below(RTE_DIM(sizes))];
	if (packed && mem[id].buffer < 2048)
		size = (uint16_t)(49 + below(RING - 48));
	reset_rings(id, features, size);
}

static void
pause_guest(unsigned int id)
{
	rte_rcu_qsbr_thread_offline(sw.rcu, 0);
	device_pause(&device[id]);
	guests.shared = guests.all;
	rte_rcu_qsbr_thread_online(sw.rcu, 0);
}

static void
resume_guest(unsigned int id)
{
	rte_rcu_qsbr_thread_offline(sw.rcu, 0);
	device_resume(&device[id]);
	guests.shared = guests.all;
	rte_rcu_qsbr_thread_online(sw.rcu, 0);
}

/* Start a guest again. */
static void
renew(unsigned int id)
{
	pause_guest(id);
	renew_rings(id);
	rte_rcu_qsbr_thread_offline(sw.rcu, 0);
	device_set_running(&device[id], true);
	guests.shared = guests.all;
	rte_rcu_qsbr_thread_online(sw.rcu, 0);
	resume_guest(id);
}

/*
 * A message for one of the two at the worst time: between a frame and the poll for it. PEER may
 * become another meanwhile. Returns whether it did.
 */
static bool
interrupt(const struct made *made)
{
	uint32_t what = below(16);
	bool again = what > 2 && below(2);

	if (what > 4)
		return false;
	pause_guest(what == 0 ? GOOD : PEER);
	if (what > 1)
		poll(GOOD);
	if (again)
		renew_rings(PEER);
	resume_guest(what == 0 ? GOOD : PEER);
	if (again)
		make_room(PEER, room_for(made));
	return again;
}

/* What a guest was given back, or was given frames in, is its own again. */
static void
take_all(struct driver_ring *r)
{
	uint32_t len, n = 0;
	uint16_t id;

	while (n++ < r->size && driver_take(r, &id, &len))
		;
}

/* GOOD sends two frames to PEER and up to two to EVIL: PEER gets its two. */
static void
good_turn(uint8_t fill)
{
	struct memory *m = &mem[GOOD];
	static struct made made[2], other;
	uint32_t i, n = below(3), to = below(8) ? PEER : NB;
	uint16_t flow = (uint16_t)below(64), ring = VRING_TX(below(m->pairs));
	enum kind kind = any_kind();
	bool changed;

	take_others(); /* EVIL sends to it too */
	retry_reset(&w->to_guest[PEER].retry);
	make_any(&made[0], kind, GOOD, to, flow, fill);
	make_any(&made[1], below(2) ? kind : any_kind(), GOOD, to, flow, (uint8_t)(fill + 1));
	make_room(PEER, room_for(made));
	for (i = 0; i < 2 + n; i++) {
		uint32_t off = BUFFERS_OFF + i * 2048;

		if (i >= 2)
			make_any(&other, any_kind(), GOOD, EVIL, flow, fill);
		check(offer(m, ring, off, write_frame(m, off, i < 2 ? &made[i] : &other),
			1 + below(5), below(3) == 0), "a ring of GOOD is too small");
	}
	changed = interrupt(made);
	poll(GOOD);
	take_all(&m->ring[ring]);
	check(m->ring[ring].in_use == 0, "a buffer was not given back");
	expect(made, changed);
}

/* Parts of a chain: a few, or as many as a table holds. */
static unsigned int
some_parts(void)
{
	return 1 + below(below(16) ? 4 : INDIRECT);
}

static void
evil_turn(uint64_t turn)
{
	struct memory *m = &mem[EVIL];
	uint32_t i, k, n = 1 + below(below(8) ? 6 : 40);
	static struct made made;

	for (i = 0; i < 2u * m->pairs; i++)
		take_all(&m->ring[i]);
	make_room(PEER, below(8));
	for (i = 0; i < n; i++) {
		uint32_t off = somewhere(), len, pair = below(m->pairs);

		make_any(&made, any_kind(), EVIL,
			below(16) ? PEER - below(2) : below(2) ? EVIL : NB, (uint16_t)below(64),
			(uint8_t)turn);
		for (k = below(4); k > 0; k--)
			alter_request(&made);
		len = write_frame(m, off, &made);
		if (below(32) == 0) /* longer than a frame can be, and than the memory */
			len = below(1u << (10 + below(8)));
		offer(m, VRING_TX(pair), off, len, some_parts(), below(3) == 0);
		offer(m, VRING_RX(pair), somewhere(), below(4) ? 4 * BUFFER : below(BUFFER) + 1,
			some_parts(), below(3) == 0);
	}
	for (i = below(4); i > 0; i--)
		alter(&rng);
	poll(EVIL);
}

/* Once in a while: other sizes, other kinds; EVIL after it was caught, and also before. */
static bool
renew_some(void)
{
	bool caught = device_is_disabled(&device[EVIL]);

	if (caught || below(64) == 0)
		renew(EVIL);
	if (below(256) == 0) {
		take_others();
		renew(PEER);
	}
	if (below(256) == 0)
		renew(GOOD);
	return caught;
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
	rte_log_set_level(RTE_LOGTYPE_USER1, RTE_LOG_CRIT);
	pool = rte_pktmbuf_pool_create("p", 2047, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	sw = (struct switch_ctx){ .cfg = &cfg, .guests = &guests, .uplink = &uplink, .pool = pool,
		.finishes = true,
		.rcu = rte_zmalloc(NULL, rte_rcu_qsbr_get_memsize(1), RTE_CACHE_LINE_SIZE) };
	rte_rcu_qsbr_init(sw.rcu, 1);
	rte_rcu_qsbr_thread_register(sw.rcu, 0);
	guests.fdb = fdb_create(2 * GUEST_MAX);
	w = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*w));
	memset(w, 0, sizeof(*w));
	w->sw = &sw;
	w->pause_timeout = 1000 * rte_get_tsc_hz();
	guests.all = calloc(1, sizeof(*guests.all) + NB * sizeof(guests.all->guest[0]));
	for (i = 0; i < NB; i++) {
		create_guest(i);
		guests.all->guest[guests.all->n++] = &guest[i];
	}
	guests.shared = guests.all;
	rte_rcu_qsbr_thread_online(sw.rcu, 0);
}

int
main(int argc, char **argv)
{
	uint64_t bursts = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000, turn, broken = 0, state;
	uint64_t direct = 0, total = 0;
	uint8_t *quiet;
	pthread_t thread;
	unsigned int i;

	rng = argc > 2 ? strtoull(argv[2], NULL, 10) * 2 + 1 : 88172645463325252ull;
	state = rng ^ 0x5555555555555555ull;
	start(argv[0]);
	quiet = calloc(1, HIGH_SIZE);
	for (i = 0; i < HIGH_SIZE; i++)
		quiet[i] = mem[GOOD].high[i] = (uint8_t)(i * 31);
	check(pthread_create(&thread, NULL, scribbler, &state) == 0, "thread");
	for (turn = 0; turn < bursts; turn++) {
		if (turn % 1000 == 0) {
			__atomic_store_n(&scribble, turn / 1000 % 2, __ATOMIC_RELAXED);
			check(memcmp(quiet, mem[GOOD].high, HIGH_SIZE) == 0,
				"memory of another guest was written");
			for (i = 0; i < NB; i++)
				check(i == EVIL || !device_is_disabled(&device[i]),
					"another guest was disabled");
		}
		broken += renew_some();
		evil_turn(turn);
		uplink_turn();
		good_turn((uint8_t)turn);
	}
	__atomic_store_n(&end, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	free(quiet);
	for (i = 0; i < NB; i++) {
		direct += w->counters.guest[i].tx_direct;
		total += w->counters.guest[i].rx_ok;
	}
	printf("PEER got %" PRIu64 " frames of GOOD with requests, %" PRIu64 " finished, %" PRIu64
		" segments; %" PRIu64 " of EVIL with requests\n", asked.whole, asked.finished,
		asked.segments, asked.of_evil);
	printf("%" PRIu64 " bursts, %" PRIu64 " times disabled, %" PRIu64
		" frames of EVIL copied, %" PRIu64 " to it, %" PRIu64 " in all\n", bursts, broken,
		w->counters.guest[EVIL].tx_direct, w->counters.guest[EVIL].rx_ok, direct);
	fflush(stdout);
	check(direct <= total, "counters disagree");
	output_drop_all(w);
	check(rte_mempool_avail_count(pool) == 2047, "mbufs are missing");
	check(broken > bursts / 1000 && w->counters.guest[EVIL].tx_direct > bursts / 100 &&
		w->counters.guest[EVIL].rx_ok > bursts / 100 && asked.whole > bursts / 20 &&
		asked.finished > bursts / 20 && asked.segments > bursts / 20 &&
		asked.of_evil > bursts / 100, "too little was tried");
	return EXIT_SUCCESS;
}
