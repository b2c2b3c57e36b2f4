/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Virtqueues of guests that break every rule: fuzz_rings BURSTS [SEED]
 *
 * Three guests made of plain memory, each in two regions of their own from malloc(), so that
 * AddressSanitizer sees any step beside them; librte_vhost's calls are wrapped. Guest EVIL sends
 * and receives by virtqueues, split and packed, of 1 to 1024 entries, that are first filled
 * properly, by chains of all shapes, and then altered at random; half of the time another thread
 * goes on altering them while they are in use. GOOD sends to EVIL and to PEER all the while: what
 * PEER gets must be exact, in order and all of it, and the memory of GOOD that nobody may write
 * must stay as it was. Frames come from an uplink too, for all three, in mbufs of one segment and
 * of several.
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

#include "tests/unit/driver.h"

int log_type_config, log_type_data, log_type_uplink;

#define RING 64	    /* entries, of GOOD and PEER */
#define INDIRECT 64 /* entries of a table */
#define TABLES 32
#define FRAME 480 /* longer ones are copied in another way (switch/copy.h) */
#define LOW_SIZE 131072u /* virtqueues, tables of indirect descriptors, buffers */
#define HIGH_SIZE 32768u /* buffers; follows in the guest's addresses and not in ours */
#define GUEST_BASE UINT64_C(0x40000000)
#define TABLES_OFF (2 * DRIVER_RING_BYTES)
#define BUFFERS_OFF (TABLES_OFF + TABLES * INDIRECT * 16u)
#define BUFFER 512u

enum { EVIL, GOOD, PEER, NB };

struct memory {
	struct driver_ring ring[2];
	uint8_t *low, *high;
	uint16_t last_avail[2], last_used[2]; /* what librte_vhost would remember */
	uint64_t features;
};

static struct memory mem[NB];
static struct guest guest[NB];
static struct device device[NB];
static struct guests guests = { .wake_fd = -1 };
static struct config cfg = { .vm2vm = VM2VM_SOFTWARE };
static struct uplink uplink;
static struct switch_ctx sw;
static struct worker *w;
static struct rte_mempool *pool;
static uint64_t rng;
static bool scribble, end;

static uint64_t
next_random(uint64_t *state)
{
	*state ^= *state << 13; /* xorshift64: Marsaglia, Journal of Statistical Software 8 (14) */
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint32_t
below(uint32_t n)
{
	return (uint32_t)(next_random(&rng) >> 11) % n;
}

static void
check(bool right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "fuzz_rings: %s\n", what);
	abort();
}

/* librte_vhost, as far as vhost/vring.c asks it. */
int __wrap_rte_vhost_get_vring_base(int vid, uint16_t vring, uint16_t *avail, uint16_t *used);
int __wrap_rte_vhost_set_vring_base(int vid, uint16_t vring, uint16_t avail, uint16_t used);
int __wrap_rte_vhost_get_vhost_vring(int vid, uint16_t vring, struct rte_vhost_vring *v);
int __wrap_rte_vhost_get_mem_table(int vid, struct rte_vhost_memory **m);
int __wrap_rte_vhost_get_negotiated_features(int vid, uint64_t *features);
uint16_t __wrap_rte_vhost_get_vring_num(int vid);
void __wrap_rte_vhost_log_write(int vid, uint64_t addr, uint64_t len);

void
__wrap_rte_vhost_log_write(int vid, uint64_t addr, uint64_t len)
{
	(void)vid;
	(void)addr;
	(void)len;
}

int
__wrap_rte_vhost_get_vring_base(int vid, uint16_t vring, uint16_t *avail, uint16_t *used)
{
	*avail = mem[vid].last_avail[vring];
	*used = mem[vid].last_used[vring];
	return 0;
}

int
__wrap_rte_vhost_set_vring_base(int vid, uint16_t vring, uint16_t avail, uint16_t used)
{
	check(vid == EVIL || mem[vid].ring[vring].seen == used,
		"used elements were handed over unseen");
	mem[vid].last_avail[vring] = avail;
	mem[vid].last_used[vring] = used;
	return 0;
}

int
__wrap_rte_vhost_get_vhost_vring(int vid, uint16_t vring, struct rte_vhost_vring *v)
{
	const struct driver_ring *r = &mem[vid].ring[vring];

	*v = (struct rte_vhost_vring){ .desc = r->desc, .avail = r->avail, .used = r->used,
		.callfd = -1, .kickfd = -1, .size = r->size };
	return 0;
}

int
__wrap_rte_vhost_get_mem_table(int vid, struct rte_vhost_memory **m)
{
	*m = calloc(1, sizeof(**m) + 2 * sizeof((*m)->regions[0]));
	(*m)->nregions = 2;
	(*m)->regions[0].guest_phys_addr = GUEST_BASE;
	(*m)->regions[0].host_user_addr = (uintptr_t)mem[vid].low;
	(*m)->regions[0].size = LOW_SIZE;
	(*m)->regions[1].guest_phys_addr = GUEST_BASE + LOW_SIZE;
	(*m)->regions[1].host_user_addr = (uintptr_t)mem[vid].high;
	(*m)->regions[1].size = HIGH_SIZE;
	return 0;
}

int
__wrap_rte_vhost_get_negotiated_features(int vid, uint64_t *features)
{
	*features = mem[vid].features;
	return 0;
}

uint16_t
__wrap_rte_vhost_get_vring_num(int vid)
{
	(void)vid;
	return 2;
}

static uint8_t *
host(struct memory *m, uint32_t off)
{
	return off < LOW_SIZE ? m->low + off : m->high + (off - LOW_SIZE);
}

/* Virtqueues as after the guest's reset. */
static void
reset_rings(unsigned int id, uint64_t features, uint16_t size)
{
	struct memory *m = &mem[id];
	bool packed = features & RTE_BIT64(VIRTIO_F_RING_PACKED);
	unsigned int i;

	m->features = features | RTE_BIT64(VIRTIO_F_VERSION_1);
	for (i = 0; i < 2; i++) {
		driver_reset(&m->ring[i], m->low + i * DRIVER_RING_BYTES, packed, size);
		m->last_avail[i] = m->last_used[i] = m->ring[i].next;
	}
}

static void
create_guest(unsigned int id)
{
	struct memory *m = &mem[id];
	const struct rte_ether_hdr eth = { .dst_addr = { { 2, 0, 0, 0, 0, (uint8_t)id } } };
	unsigned int i;

	m->low = calloc(1, LOW_SIZE);
	m->high = calloc(1, HIGH_SIZE);
	reset_rings(id, 0, RING);
	device_open(&device[id], (int)id, "", sw.rcu);
	device[id].has_memory = true;
	for (i = 0; i < 2; i++)
		device_enable_ring(&device[id], (uint16_t)i, true);
	device_set_running(&device[id], true);
	guest[id] = (struct guest){ .serial = id + 1, .id = (uint16_t)id,
		.vlan = (uint16_t)(VLAN_TAG_BASE + id), .registered = true,
		.mac = fdb_key(&eth.dst_addr), .device = &device[id] };
	check(fdb_add(guests.fdb, guest[id].mac, (uint16_t)id) == 0, "fdb_add");
	guests.by_id[id] = &guest[id];
}

static uint64_t
address(uint32_t off)
{
	return GUEST_BASE + off;
}

/* Offer a buffer of len bytes in so many parts. Returns false when the ring has no room. */
static bool
offer(struct memory *m, unsigned int ring, uint32_t off, uint32_t len, unsigned int parts,
	bool indirect)
{
	uint32_t table = TABLES_OFF + (ring * 16 + m->ring[ring].next % 16u) * INDIRECT * 16;

	return driver_offer(&m->ring[ring], address(off), len, (uint16_t)parts, ring == 0,
		indirect ? host(m, table) : NULL, address(table));
}

static uint32_t
write_frame(struct memory *m, uint32_t off, unsigned int from, unsigned int to, uint8_t fill,
	uint32_t len)
{
	uint8_t f[VIRTIO_NET_HDR_LEN + FRAME] = { 0 };
	uint32_t i;

	memcpy(f + VIRTIO_NET_HDR_LEN, &guest[to].mac, 6);
	memcpy(f + VIRTIO_NET_HDR_LEN + 6, &guest[from].mac, 6);
	memset(f + VIRTIO_NET_HDR_LEN + 12, fill, len - 12);
	for (i = 0; i < VIRTIO_NET_HDR_LEN + len; i++)
		*host(m, off + i) = f[i];
	return (uint32_t)VIRTIO_NET_HDR_LEN + len;
}

/* Somewhere where a buffer fits; now and then across the two regions. */
static uint32_t
somewhere(void)
{
	return below(8) == 0 ? LOW_SIZE - 1 - below(BUFFER) :
		BUFFERS_OFF + below((LOW_SIZE + HIGH_SIZE - BUFFERS_OFF) / BUFFER - 1) * BUFFER;
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
	struct driver_ring *ring = &m->ring[r & 1];
	uint32_t slot = (uint32_t)(r >> 40) % ring->size;
	struct vring_desc *tables = (struct vring_desc *)(void *)(m->low + TABLES_OFF);
	struct vring_desc *d = r & 2 ? &ring->desc[slot] :
		&tables[(r >> 40) % (TABLES * INDIRECT)];

	if (r & 4)
		value = next_random(state);
	switch ((r >> 3) % 7) {
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
	default: /* the frame itself: its destination above all */
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
poll(unsigned int id)
{
	static struct burst b;
	struct device *d = &device[id];
	uint16_t done = 1;

	while (done > 0 && !device_is_disabled(d)) {
		burst_of_vring(&b, d, &d->vq[1]);
		if (b.status == VRING_BROKEN && b.n == 0)
			guests_disable(&guests, &guest[id], GUEST_REPORT_BROKEN_TRANSMIT);
		done = b.n > 0 ? forward_from_guest(w, &guest[id], &b)
			: b.status == VRING_RUNT || b.status == VRING_TOO_LONG;
		deliver_finish(&b, done);
		output_flush(w);
		w->rounds++;
	}
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

/* A size of virtqueues: any that there can be. */
static uint16_t
any_size(bool packed)
{
	return (uint16_t)(packed ? 1 + below(DRIVER_RING_MAX) : 1u << below(11));
}

/* Start a guest again, by virtqueues of another kind. */
static void
renew(unsigned int id)
{
	static const uint64_t sets[] = { 0, RTE_BIT64(VIRTIO_NET_F_MRG_RXBUF),
		RTE_BIT64(VIRTIO_NET_F_CSUM), RTE_BIT64(VIRTIO_RING_F_EVENT_IDX) |
			RTE_BIT64(VIRTIO_NET_F_MRG_RXBUF) | RTE_BIT64(VIRTIO_NET_F_CSUM) };
	bool packed = below(2);
	uint64_t features = packed ? RTE_BIT64(VIRTIO_F_RING_PACKED) : 0;

	rte_rcu_qsbr_thread_offline(sw.rcu, 0);
	device_pause(&device[id]);
	if (id == EVIL)
		reset_rings(id, features | sets[below(RTE_DIM(sets))], any_size(packed));
	else
		reset_rings(id, features, RING);
	device_set_running(&device[id], true);
	device_resume(&device[id]);
	rte_rcu_qsbr_thread_online(sw.rcu, 0);
}

/* PEER has room for n frames. */
static void
make_room(uint16_t n)
{
	struct memory *p = &mem[PEER];

	while (p->ring[0].in_use < n)
		offer(p, 0, BUFFERS_OFF + p->ring[0].next % RING * BUFFER, BUFFER, 1, false);
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
	struct memory *m = &mem[GOOD], *p = &mem[PEER];
	uint32_t len[2], got_len, i, n = below(3);
	uint16_t first, id;

	take_all(&p->ring[0]); /* EVIL sends to it too */
	make_room(2);
	first = (uint16_t)((p->ring[0].next % RING + RING - p->ring[0].in_use) % RING);
	for (i = 0; i < 2; i++) {
		len[i] = 14 + below(FRAME - 14);
		offer(m, 1, BUFFERS_OFF + i * BUFFER,
			write_frame(m, BUFFERS_OFF + i * BUFFER, GOOD, PEER, (uint8_t)(fill + i),
				len[i]),
			1 + below(2), below(4) == 0);
	}
	for (; i < 2 + n; i++)
		offer(m, 1, BUFFERS_OFF + i * BUFFER,
			write_frame(m, BUFFERS_OFF + i * BUFFER, GOOD, EVIL, fill,
				14 + below(FRAME - 14)),
			1 + below(2), below(2));
	poll(GOOD);
	take_all(&m->ring[1]);
	check(m->ring[1].in_use == 0, "a buffer was not given back");
	for (i = 0; i < 2; i++) {
		const uint8_t *got;

		check(driver_take(&p->ring[0], &id, &got_len),
			"a frame between the others was lost");
		check(id == (first + i) % RING, "a buffer of the receiver was used out of turn");
		check(got_len == VIRTIO_NET_HDR_LEN + len[i],
			"a frame between the others has a wrong length");
		got = host(p, BUFFERS_OFF + id * BUFFER) + VIRTIO_NET_HDR_LEN;
		check(memcmp(got, &guest[PEER].mac, 6) == 0 &&
			memcmp(got + 6, &guest[GOOD].mac, 6) == 0,
			"a frame between the others has wrong addresses");
		check(len[i] == 14 || (got[12] == (uint8_t)(fill + i) &&
			memcmp(got + 12, got + 13, len[i] - 13) == 0),
			"a frame between the others was altered");
	}
	check(!driver_take(&p->ring[0], &id, &got_len), "a frame too many");
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
	uint32_t i, n = 1 + below(below(8) ? 6 : 40);

	take_all(&m->ring[0]);
	take_all(&m->ring[1]);
	make_room((uint16_t)below(8));
	for (i = 0; i < n; i++) {
		uint32_t off = somewhere(), len = write_frame(m, off, EVIL,
			below(16) ? PEER + below(2) - 1 : EVIL, (uint8_t)turn,
			14 + below(FRAME - 14));

		if (below(32) == 0) /* longer than a frame can be, and than the memory */
			len = below(1u << (10 + below(8)));
		offer(m, 1, off, len, some_parts(), below(3) == 0);
		offer(m, 0, somewhere(), below(4) ? BUFFER : below(BUFFER) + 1, some_parts(),
			below(3) == 0);
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
		take_all(&mem[PEER].ring[0]);
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
		.rcu = rte_zmalloc(NULL, rte_rcu_qsbr_get_memsize(1), RTE_CACHE_LINE_SIZE) };
	rte_rcu_qsbr_init(sw.rcu, 1);
	rte_rcu_qsbr_thread_register(sw.rcu, 0);
	guests.fdb = fdb_create();
	w = aligned_alloc(RTE_CACHE_LINE_SIZE, sizeof(*w));
	memset(w, 0, sizeof(*w));
	w->sw = &sw;
	cfg.tx_csum = true;
	guests.all = calloc(1, sizeof(*guests.all) + NB * sizeof(guests.all->guest[0]));
	for (i = 0; i < NB; i++) {
		create_guest(i);
		guests.all->guest[guests.all->n++] = &guest[i];
	}
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
	printf("%" PRIu64 " bursts, %" PRIu64 " times disabled, %" PRIu64
		" frames of EVIL copied, %" PRIu64 " to it, %" PRIu64 " in all\n", bursts, broken,
		w->counters.guest[EVIL].tx_direct, w->counters.guest[EVIL].rx_ok, direct);
	fflush(stdout);
	check(direct <= total, "counters disagree");
	output_drop_all(w);
	check(rte_mempool_avail_count(pool) == 2047, "mbufs are missing");
	check(broken > bursts / 1000 && w->counters.guest[EVIL].tx_direct > bursts / 100 &&
		w->counters.guest[EVIL].rx_ok > bursts / 100, "too little was tried");
	return EXIT_SUCCESS;
}
