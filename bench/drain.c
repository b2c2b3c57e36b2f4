/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guests that cost next to nothing, so that the switch is what is measured: their rings are filled
 * in one go and emptied in one go, by plain stores. Who started this has spoken to the switch for
 * them (tests/lib/vhostuser.py) and describes them on stdin, each in one line and one more for each
 * virtqueue, in the order of their indices:
 *
 *   guest FILE LENGTH SIZE STRIDE MAC
 *   ring DESC AVAIL USED BUFFERS
 *
 * FILE is the guest's memory, the others are numbers: bytes of memory, elements of each ring and
 * bytes of a buffer, one for each element; offsets of the three parts of a virtqueue and of its
 * buffers, which nobody has filled. Guest i sends to guest i ^ 1. KIND is what frames are, and how
 * they lie in the sender's memory:
 *
 *   plain      one descriptor
 *   chain      two: the virtio-net header, and the frame
 *   indirect   the same two in an indirect table, as Linux sends what does not fit one buffer
 *   flood      one descriptor, and guest 0 alone sends, to the broadcast address, once all are
 *              known
 *   packed     one descriptor, and virtqueues are packed
 *   csum       one descriptor; TCP over IPv4 whose checksum is left to the receiver
 *   tso        unsegmented TCP over IPv4, in an indirect table: all headers, and the data in pieces
 *              of 32 KiB, as Linux sends what a program writes; receivers merge buffers
 *   tso-pages  the same with data in pieces of 4 KiB, as Linux sends a file
 *   mq         one descriptor; UDP over IPv4, 16 flows a guest that share its transmit rings evenly
 *              and take turns there, 8 frames each. Together they are filled with as much as one
 *              ring holds, so that there is room wherever a switch puts a flow
 *
 * Then, each answered by one line:
 *
 *   run WARM MS        fill all transmit rings, publish them all, wait until all has arrived and
 *                      all buffers are given back, compare, and again; after WARM ms for MS ms.
 *                      "FRAMES BAD SECONDS": frames that were to arrive, those that did not arrive
 *                      as they were sent, with the same virtio-net header and in order within their
 *                      flow, and the time it took, by the median of all turns: only from publishing
 *                      to the last arrival
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/frame.h"
#include "bench/ring.h"
#include "bench/timing.h"

#define GUESTS_MAX 64
#define PAIRS_MAX 4
#define TURNS_MAX 1000000
#define PARTS_MAX 64
#define FLOW_RUN 8
#define TABLE_ROOM (20 * sizeof(struct vring_desc)) /* at the end of a frame's buffers */
#define LOST_NS 200000000
#define STUCK_NS 5000000000

/* Turns before the first flood, in which each guest sends and becomes known. */
#define INTRODUCTIONS 3

struct endpoint {
	struct ring rx[PAIRS_MAX], tx[PAIRS_MAX];
	unsigned int nb_rings;
	uint8_t mac[RTE_ETHER_ADDR_LEN];
	unsigned int size, stride;
	uint8_t *memory;	     /* what the guest knows as address 0 */
	unsigned int next[FLOWS_MAX]; /* of each flow, the index that the next frame has at least */
};

static struct endpoint guest[GUESTS_MAX];
static unsigned int nb_guests;
static uint32_t frame_len;
static const struct kind *kind;
static uint32_t turn;
static uint64_t took[TURNS_MAX];

static void
die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

static unsigned int
pairs_of(const struct endpoint *g)
{
	return g->nb_rings / 2;
}

/* Receive buffers that a frame needs: as many lie in a row for each frame that is sent. */
static unsigned int
parts_of(const struct endpoint *g)
{
	return (HEADER_LEN + frame_len + g->stride - 1) / g->stride;
}

static void
add_guest(const char *line)
{
	struct endpoint *g = &guest[nb_guests];
	char path[256];
	size_t length;
	uint32_t room;
	int fd, n;

	n = sscanf(line, "guest %255s %zu %u %u %hhx:%hhx:%hhx:%hhx:%hhx:%hhx", path, &length,
		&g->size, &g->stride, &g->mac[0], &g->mac[1], &g->mac[2], &g->mac[3], &g->mac[4],
		&g->mac[5]);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (n != 10 || nb_guests == GUESTS_MAX || fd < 0)
		die("guest");
	g->memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (g->memory == MAP_FAILED)
		die("mmap");
	room = parts_of(g) * g->stride - HEADER_LEN - frame_len;
	if (parts_of(g) > PARTS_MAX || (kind->layout == TABLE && room < TABLE_ROOM))
		die("buffers that are too small");
	nb_guests++;
}

/* The next virtqueue of the guest that was added last: receiving and sending in turns. */
static void
add_ring(const char *line)
{
	struct endpoint *g = &guest[nb_guests - 1];
	unsigned int i = g->nb_rings++, id;
	struct ring *r = &(i % 2 == 0 ? g->rx : g->tx)[i / 2];
	size_t desc, avail, used, buffers;

	if (nb_guests == 0 || i == 2 * PAIRS_MAX ||
			sscanf(line, "ring %zu %zu %zu %zu", &desc, &avail, &used, &buffers) != 4)
		die("ring");
	*r = (struct ring){ .desc = (void *)(g->memory + desc),
		.avail = (void *)(g->memory + avail), .used = (void *)(g->memory + used),
		.buffers = g->memory + buffers, .size = (uint16_t)g->size };
	if (kind->is_packed) {
		r->packed = (void *)(g->memory + desc);
		r->desc = calloc(g->size, sizeof(r->desc[0]));
		if (r->desc == NULL)
			die("calloc");
	}
	ring_silence(r);
	for (id = 0; i % 2 == 0 && id < g->size; id++) {
		r->desc[id] = (struct vring_desc){ buffers + (size_t)id * g->stride, g->stride,
			VRING_DESC_F_WRITE, 0 };
		ring_offer(r, (uint16_t)id);
	}
	ring_publish(r);
}

/* Where frame i of a transmit virtqueue is, with its virtio-net header before it. */
static uint8_t *
frame_at(const struct endpoint *g, const struct ring *r, unsigned int i)
{
	return r->buffers + (size_t)i * parts_of(g) * g->stride + HEADER_LEN;
}

static bool
is_flood(void)
{
	return kind->is_flood && turn >= INTRODUCTIONS;
}

static bool
sends(unsigned int i)
{
	return !is_flood() || i == 0;
}

/* Who sends to guest i; itself: nobody. */
static unsigned int
sender_of(unsigned int i)
{
	return is_flood() ? 0 : i ^ 1;
}

/* Frames that a guest sends in a turn by each of its rings. */
static unsigned int
burst_of(const struct endpoint *g)
{
	unsigned int entries = kind->layout == CHAIN ? 2 : parts_of(g);

	return g->size / entries / pairs_of(g);
}

/* Frames that are to arrive at guest i in this turn. */
static unsigned int
expected(unsigned int i)
{
	const struct endpoint *from = &guest[sender_of(i)];

	return sender_of(i) == i ? 0 : burst_of(from) * pairs_of(from);
}

/* The flow of frame i of a ring, which has its share of them. */
static unsigned int
flow_of(const struct endpoint *g, unsigned int pair, unsigned int i)
{
	unsigned int share = kind->flows > 1 ? kind->flows / pairs_of(g) : 1;

	return pair * share + i / FLOW_RUN % share;
}

/* Describe a frame in a table, of which the first descriptor has an index. Returns how many. */
static unsigned int
write_chain(struct vring_desc *desc, unsigned int index, uint64_t at)
{
	uint32_t left = HEADER_LEN + frame_len, len = HEADER_LEN + kind->first;
	unsigned int n = 0;

	while (left > len) {
		desc[n] = (struct vring_desc){ at, len, VRING_DESC_F_NEXT,
			(uint16_t)(index + n + 1) };
		at += len;
		left -= len;
		len = kind->piece > 0 ? kind->piece : left;
		n++;
	}
	desc[n] = (struct vring_desc){ at, left, 0, 0 };
	return n + 1;
}

/* Describe frame i of a transmit virtqueue. Returns the id of its element. */
static uint16_t
describe(struct endpoint *g, struct ring *r, unsigned int i)
{
	uint64_t at = (uint64_t)(frame_at(g, r, i) - HEADER_LEN - g->memory);
	uint64_t table = at + (uint64_t)parts_of(g) * g->stride - TABLE_ROOM;
	unsigned int n;

	switch (kind->layout) {
	case CHAIN:
		write_chain(&r->desc[2 * i], 2 * i, at);
		return (uint16_t)(2 * i);
	case TABLE:
		n = write_chain((void *)(g->memory + table), 0, at);
		r->desc[i] = (struct vring_desc){ table, (uint32_t)(n * sizeof(r->desc[i])),
			VRING_DESC_F_INDIRECT, 0 };
		return (uint16_t)i;
	default:
		r->desc[i] = (struct vring_desc){ at, HEADER_LEN + frame_len, 0, 0 };
		return (uint16_t)i;
	}
}

/* What does not change from turn to turn in frame i of a ring. */
static void
write_frame(struct endpoint *g, const struct endpoint *to, unsigned int pair, unsigned int i)
{
	uint8_t *f = frame_at(g, &g->tx[pair], i);
	struct stamp stamp = { 0, (uint16_t)pair, (uint16_t)i };

	memcpy(f, to->mac, RTE_ETHER_ADDR_LEN);
	memcpy(f + RTE_ETHER_ADDR_LEN, g->mac, RTE_ETHER_ADDR_LEN);
	frame_fill(kind, f, frame_len, i);
	if (kind->proto > 0)
		frame_write_ip(kind, f, frame_len, (uint32_t)(g - guest), (uint32_t)(to - guest),
			flow_of(g, pair, i));
	memcpy(f + kind->stamp, &stamp, sizeof(stamp));
}

/* Frames that differ from each other and from the turn before. */
static void
write_frames(struct endpoint *g, const struct endpoint *to)
{
	unsigned int burst = burst_of(g), pair, i;

	for (pair = 0; pair < pairs_of(g); pair++) {
		struct ring *r = &g->tx[pair];

		for (i = 0; i < burst; i++) {
			uint8_t *f = frame_at(g, r, i);

			if (turn == 0)
				write_frame(g, to, pair, i);
			else if (is_flood())
				memset(f, 0xff, RTE_ETHER_ADDR_LEN);
			memcpy(f + kind->stamp, &turn, sizeof(turn));
			memcpy(f + frame_len - sizeof(turn), &turn, sizeof(turn));
			ring_offer(r, describe(g, r, i));
		}
	}
}

/* Whether a guest has all back that it has sent. */
static bool
is_sent(const struct endpoint *g)
{
	unsigned int pair;

	for (pair = 0; pair < pairs_of(g); pair++) {
		const struct ring *r = &g->tx[pair];
		uint16_t sent = (uint16_t)(r->avail_idx - r->used_idx);

		if (sent > 0 && ring_arrived(r, sent) != sent)
			return false;
	}
	return true;
}

/* Whether a guest has received so many buffers. */
static bool
has_received(const struct endpoint *g, unsigned int wanted)
{
	unsigned int n = 0, pair;

	for (pair = 0; pair < pairs_of(g) && n < wanted; pair++)
		n += ring_arrived(&g->rx[pair], (uint16_t)wanted);
	return n >= wanted;
}

/*
 * Whether the rest is lost. Not while senders have not all back: a ring that is filled again then
 * breaks the rules of VIRTIO.
 */
static bool
is_lost(uint64_t start)
{
	uint64_t waited = now_ns() - start;
	unsigned int i;

	for (i = 0; i < nb_guests && waited <= STUCK_NS; i++)
		if (!is_sent(&guest[i]))
			return false;
	return waited > LOST_NS;
}

/* Publish all, and wait for all. Returns the time, 0 if some of it never came. */
static uint64_t
deliver(void)
{
	uint64_t start = now_ns();
	unsigned int i, pair, spins = 0;

	for (i = 0; i < nb_guests; i++)
		for (pair = 0; pair < pairs_of(&guest[i]); pair++)
			ring_publish(&guest[i].tx[pair]);
	for (i = 0; i < nb_guests; i++) {
		unsigned int wanted = expected(i) * parts_of(&guest[i]);

		while (!has_received(&guest[i], wanted) || !is_sent(&guest[i])) {
			if (++spins % 1024 == 0 && is_lost(start))
				return 0;
			__builtin_ia32_pause();
		}
	}
	return now_ns() - start;
}

/*
 * Find the frame at the sender of which this is the first part, in order within its flow. NULL:
 * there is none.
 */
static const uint8_t *
find_sent(struct endpoint *g, const struct endpoint *from, const uint8_t *f)
{
	struct stamp stamp;
	unsigned int *next;

	memcpy(&stamp, f + kind->stamp, sizeof(stamp));
	if (stamp.pair >= pairs_of(from) || stamp.index >= burst_of(from))
		return NULL;
	next = &g->next[flow_of(from, stamp.pair, stamp.index)];
	if (stamp.index < *next)
		return NULL;
	*next = stamp.index + 1u;
	return frame_at(from, &from->tx[stamp.pair], stamp.index);
}

/* Whether what is in some buffers, the first in the first, is a frame as it was sent. */
static bool
is_right(struct endpoint *g, const struct endpoint *from, const struct ring *r,
	const struct vring_used_elem *e, unsigned int parts)
{
	const uint8_t *at = r->buffers + (size_t)e[0].id * g->stride;
	const struct virtio_net_hdr_mrg_rxbuf *header = (const void *)at;
	uint32_t left = HEADER_LEN + frame_len;
	const uint8_t *sent;
	unsigned int k;

	if (e[0].len < HEADER_LEN + FRAME_MIN)
		return false;
	sent = find_sent(g, from, at + HEADER_LEN);
	if (sent == NULL || (parts > 1 && header->num_buffers != parts) ||
			memcmp(at, sent - HEADER_LEN, ASKS_LEN) != 0)
		return false;
	if (e[0].len > RTE_MIN(left, g->stride) ||
			!frame_is_same(kind, at + HEADER_LEN, sent, e[0].len - HEADER_LEN))
		return false;
	for (k = 1; k < parts; k++) {
		sent += e[k - 1].len - (k == 1 ? HEADER_LEN : 0);
		left -= e[k - 1].len;
		at = r->buffers + (size_t)e[k].id * g->stride;
		if (e[k].len > RTE_MIN(left, g->stride) || memcmp(at, sent, e[k].len) != 0)
			return false;
	}
	return left == e[parts - 1].len;
}

/*
 * Compare what a ring has received with what was sent to guest i, and offer the buffers again.
 * Returns how many frames were right.
 */
static unsigned int
receive_ring(unsigned int i, struct ring *r)
{
	struct endpoint *g = &guest[i];
	unsigned int good = 0, parts = parts_of(g), k, n;
	struct vring_used_elem e[PARTS_MAX];
	uint16_t left = ring_arrived(r, 0);

	while (left > 0) {
		for (n = 0; n < parts && left > 0; n++, left--) {
			e[n] = ring_take(r);
			if (e[n].id >= g->size)
				die("a buffer that there is not");
		}
		if (n == parts && sender_of(i) != i && is_right(g, &guest[sender_of(i)], r, e, n))
			good++;
		for (k = 0; k < n; k++)
			ring_offer(r, (uint16_t)e[k].id);
	}
	ring_publish(r);
	return good;
}

/* Returns how many frames to guest i were bad. */
static unsigned int
receive(unsigned int i)
{
	struct endpoint *g = &guest[i];
	unsigned int bad = expected(i), pair;

	memset(g->next, 0, sizeof(g->next));
	for (pair = 0; pair < pairs_of(g); pair++) {
		bad -= receive_ring(i, &g->rx[pair]);
		g->tx[pair].used_idx = g->tx[pair].avail_idx;
	}
	return bad;
}

static void
run(unsigned int warm_ms, unsigned int ms)
{
	uint64_t start = now_ns(), begin = start + warm_ms * 1000000ull;
	uint64_t end = begin + ms * 1000000ull;
	uint64_t bad = 0, frames = 0, t;
	unsigned int i, n = 0;

	while (now_ns() < end && n < TURNS_MAX) {
		for (i = 0; i < nb_guests; i++)
			if (sends(i))
				write_frames(&guest[i], &guest[i ^ 1]);
		t = deliver();
		if (t == 0) /* what is late is of this turn, not of the next */
			usleep(1000);
		if (now_ns() < begin) {
			for (i = 0; i < nb_guests; i++)
				receive(i);
		} else {
			for (i = 0; i < nb_guests; i++) {
				bad += receive(i);
				frames += expected(i);
			}
			took[n++] = t;
		}
		turn++;
	}
	sort_times(took, n);
	printf("%" PRIu64 " %" PRIu64 " %.9f\n", frames, bad,
		n > 0 ? (double)took[n / 2] * n / 1e9 : 0.0);
}

/* Whether the arguments make sense. */
static bool
configure(int argc, char **argv)
{
	size_t i;

	for (i = 0; argc == 3 && i < RTE_DIM(kinds); i++)
		if (strcmp(argv[2], kinds[i].name) == 0)
			kind = &kinds[i];
	if (kind == NULL)
		return false;
	frame_len = (uint32_t)atoi(argv[1]) - 4;
	return frame_len >= FRAME_MIN && frame_len <= FRAME_MAX &&
		frame_len >= kind->first + sizeof(turn);
}

int
main(int argc, char **argv)
{
	char line[512];
	unsigned int a, b;

	if (!configure(argc, argv)) {
		fprintf(stderr, "usage: drain FRAME-BYTES "
			"plain|chain|indirect|flood|packed|csum|tso|tso-pages|mq\n");
		return EXIT_FAILURE;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (strncmp(line, "guest ", 6) == 0)
			add_guest(line);
		else if (strncmp(line, "ring ", 5) == 0)
			add_ring(line);
		else if (sscanf(line, "run %u %u", &a, &b) == 2)
			run(a, b);
		else
			puts("?");
	}
	return EXIT_SUCCESS;
}
