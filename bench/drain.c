/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guests that cost next to nothing, so that the switch is what is measured: their rings are filled
 * in one go and emptied in one go, by plain stores. Who started this has spoken to the switch for
 * them (tests/lib/vhostuser.py) and describes them on stdin, one a line:
 *
 *   guest FILE LENGTH SIZE RX-DESC RX-AVAIL RX-USED RX-BUFFERS
 *         TX-DESC TX-AVAIL TX-USED TX-BUFFERS STRIDE MAC
 *
 * FILE is the guest's memory, the others are numbers: bytes of memory, elements of each ring,
 * offsets of split virtqueues (virtio 1.1, 2.6) and of their buffers, one of STRIDE bytes for each
 * element. Guest i sends to guest i ^ 1. SHAPE is how a frame lies in the sender's memory:
 *
 *   plain      one descriptor
 *   chain      two: the virtio-net header, and the frame
 *   indirect   the same two in an indirect table, as Linux sends what does not fit one buffer
 *   flood      one descriptor, and guest 0 alone sends, to the broadcast address, once all are
 *              known
 *
 * Then, each answered by one line:
 *
 *   run WARM MS        fill all transmit rings, publish them all, wait until all has arrived and
 *                      all buffers are given back, compare, and again; after WARM ms for MS ms.
 *                      "FRAMES BAD SECONDS": frames that were to arrive, those that did not arrive
 *                      as they were sent, and the time it took, by the median of all turns: only
 *                      from publishing to the last arrival
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/virtio_ring.h>

#include "bench/timing.h"

#define GUESTS_MAX 64
#define TURNS_MAX 1000000
#define HEADER_LEN 12
#define MAC_LEN 6
#define LOST_NS 200000000

enum shape { PLAIN, CHAIN, INDIRECT, FLOOD, SHAPES };

static const char *const shape_name[SHAPES] = { "plain", "chain", "indirect", "flood" };

/* Turns before the first flood, in which each guest sends and becomes known. */
#define INTRODUCTIONS 3

struct ring {
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint8_t *buffers;
	uint16_t avail_idx, used_idx;
};

struct endpoint {
	struct ring rx, tx;
	uint8_t mac[MAC_LEN];
	unsigned int size, stride;
	const uint8_t *memory; /* what the guest knows as address 0 */
};

static struct endpoint guest[GUESTS_MAX];
static unsigned int nb_guests;
static unsigned int frame_len;
static enum shape shape;
static uint64_t turn;
static uint64_t took[TURNS_MAX];

static void
die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

static void
add_guest(const char *line)
{
	struct endpoint *g = &guest[nb_guests];
	size_t length, off[8];
	char path[256];
	uint8_t *at;
	int fd, n;

	n = sscanf(line,
		"guest %255s %zu %u %zu %zu %zu %zu %zu %zu %zu %zu %u "
		"%hhx:%hhx:%hhx:%hhx:%hhx:%hhx",
		path, &length, &g->size, &off[0], &off[1], &off[2], &off[3], &off[4], &off[5],
		&off[6], &off[7], &g->stride, &g->mac[0], &g->mac[1], &g->mac[2], &g->mac[3],
		&g->mac[4], &g->mac[5]);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (n != 18 || nb_guests == GUESTS_MAX || fd < 0)
		die("guest");
	at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (at == MAP_FAILED)
		die("mmap");
	g->memory = at;
	g->rx = (struct ring){ (void *)(at + off[0]), (void *)(at + off[1]), (void *)(at + off[2]),
		at + off[3], 0, 0 };
	g->tx = (struct ring){ (void *)(at + off[4]), (void *)(at + off[5]), (void *)(at + off[6]),
		at + off[7], 0, 0 };
	g->rx.avail_idx = g->rx.avail->idx;
	g->rx.used_idx = g->rx.used->idx;
	g->tx.avail_idx = g->tx.avail->idx;
	g->tx.used_idx = g->tx.used->idx;
	g->rx.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	g->tx.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	nb_guests++;
}

static uint8_t *
frame_at(const struct endpoint *g, const struct ring *r, unsigned int i)
{
	return r->buffers + (size_t)i * g->stride + HEADER_LEN;
}

static bool
is_flood(void)
{
	return shape == FLOOD && turn >= INTRODUCTIONS;
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

/* Frames that a guest sends in a turn. */
static unsigned int
burst_of(const struct endpoint *g)
{
	return shape == CHAIN ? g->size / 2 : g->size;
}

/* A header and a frame, in two descriptors of a table that begins with the given index. */
static void
write_pair(struct vring_desc *desc, uint64_t header, uint16_t next)
{
	desc[0] = (struct vring_desc){ header, HEADER_LEN, VRING_DESC_F_NEXT, next };
	desc[1] = (struct vring_desc){ header + HEADER_LEN, frame_len, 0, 0 };
}

/* Describe frame i of a guest. Returns the head of its chain. */
static uint16_t
describe(struct endpoint *g, unsigned int i)
{
	uint64_t header = (uint64_t)(frame_at(g, &g->tx, i) - HEADER_LEN - g->memory);
	uint64_t table = header + g->stride - 2 * sizeof(struct vring_desc);

	switch (shape) {
	case CHAIN:
		write_pair(&g->tx.desc[2 * i], header, (uint16_t)(2 * i + 1));
		return (uint16_t)(2 * i);
	case INDIRECT:
		write_pair((void *)(uintptr_t)(g->memory + table), header, 1);
		g->tx.desc[i] = (struct vring_desc){ table, 2 * sizeof(struct vring_desc),
			VRING_DESC_F_INDIRECT, 0 };
		return (uint16_t)i;
	default:
		g->tx.desc[i].len = HEADER_LEN + frame_len;
		return (uint16_t)i;
	}
}

/* Frames that differ from each other and from the turn before. */
static void
write_frames(struct endpoint *g, unsigned int to)
{
	unsigned int i, k;

	for (i = 0; i < burst_of(g); i++) {
		uint8_t *f = frame_at(g, &g->tx, i);

		if (turn == 0) {
			memset(f - HEADER_LEN, 0, HEADER_LEN);
			memcpy(f, guest[to].mac, MAC_LEN);
			memcpy(f + MAC_LEN, g->mac, MAC_LEN);
			for (k = 2 * MAC_LEN; k < frame_len; k++)
				f[k] = (uint8_t)(i * 7 + k);
			f[12] = 0x88;
			f[13] = 0xb5;
		} else if (is_flood()) {
			memset(f, 0xff, MAC_LEN);
		}
		memcpy(f + 14, &turn, sizeof(turn));
		memcpy(f + frame_len - sizeof(turn), &turn, sizeof(turn));
		g->tx.avail->ring[(g->tx.avail_idx + i) % g->size] = describe(g, i);
	}
	g->tx.avail_idx = (uint16_t)(g->tx.avail_idx + burst_of(g));
}

static bool
is_at(const struct ring *r, uint16_t idx)
{
	return __atomic_load_n(&r->used->idx, __ATOMIC_ACQUIRE) == idx;
}

/* Frames that are to arrive at guest i in this turn. */
static unsigned int
expected(unsigned int i)
{
	return sender_of(i) == i ? 0 : burst_of(&guest[sender_of(i)]);
}

/* Publish all, and wait for all. Returns the time, 0 if some of it never came. */
static uint64_t
deliver(void)
{
	uint64_t start = now_ns();
	unsigned int i, spins = 0;

	for (i = 0; i < nb_guests; i++)
		__atomic_store_n(&guest[i].tx.avail->idx, guest[i].tx.avail_idx, __ATOMIC_RELEASE);
	for (i = 0; i < nb_guests; i++) {
		uint16_t arrived = (uint16_t)(guest[i].rx.used_idx + expected(i));

		while (!is_at(&guest[i].rx, arrived) ||
				!is_at(&guest[i].tx, guest[i].tx.avail_idx)) {
			if (++spins % 1024 == 0 && now_ns() - start > LOST_NS)
				return 0;
			__builtin_ia32_pause();
		}
	}
	return now_ns() - start;
}

/*
 * Compare what came with what was sent to guest i, and offer the buffers again. Returns how many
 * frames were bad.
 */
static unsigned int
receive(unsigned int i)
{
	struct endpoint *g = &guest[i];
	const struct endpoint *from = &guest[sender_of(i)];
	uint16_t end = __atomic_load_n(&g->rx.used->idx, __ATOMIC_ACQUIRE);
	unsigned int k, good = 0;

	for (k = 0; g->rx.used_idx != end; k++, g->rx.used_idx++) {
		const struct vring_used_elem *e = &g->rx.used->ring[g->rx.used_idx % g->size];

		if (k < expected(i) && e->id < g->size && e->len == HEADER_LEN + frame_len &&
				memcmp(frame_at(g, &g->rx, e->id), frame_at(from, &from->tx, k),
					frame_len) == 0)
			good++;
		g->rx.avail->ring[g->rx.avail_idx % g->size] = (uint16_t)e->id;
		g->rx.avail_idx++;
	}
	__atomic_store_n(&g->rx.avail->idx, g->rx.avail_idx, __ATOMIC_RELEASE);
	g->tx.used_idx = g->tx.avail_idx;
	return expected(i) - good;
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
				write_frames(&guest[i], i ^ 1);
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

int
main(int argc, char **argv)
{
	char line[512];
	unsigned int a, b;

	while (argc == 3 && shape < SHAPES && strcmp(argv[2], shape_name[shape]) != 0)
		shape++;
	if (argc != 3 || shape == SHAPES || (frame_len = (unsigned int)atoi(argv[1]) - 4) < 60) {
		fprintf(stderr, "usage: drain FRAME-BYTES plain|chain|indirect|flood\n");
		return EXIT_FAILURE;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (fgets(line, sizeof(line), stdin) != NULL) {
		if (strncmp(line, "guest ", 6) == 0)
			add_guest(line);
		else if (sscanf(line, "run %u %u", &a, &b) == 2)
			run(a, b);
		else
			puts("?");
	}
	return EXIT_SUCCESS;
}
