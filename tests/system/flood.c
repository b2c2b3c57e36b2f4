/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guests that send to each other as fast as the switch takes it, by plain stores; of every frame
 * that arrives it is known who sent it, to whom, and in which domains that may be seen.
 *
 *   flood FRAME-BYTES
 *
 * Who started this has spoken to the switch for the guests (tests/lib/flood.py) and describes them
 * on stdin. Guests and flows have numbers from 0. A domain is a bit; bit n is VLAN 10 * (n + 1).
 *
 *   guest FILE LENGTH SIZE STRIDE PACKED DOMAINS MAC     its memory, and what it may see
 *   ring DESC AVAIL USED BUFFERS                         twice: the one that receives, and sends
 *   flow FROM TO WINDOW KINDS     numbered frames, once "go" is said. TO gets every one. KINDS:
 *                                 "unicast"; "broadcast"; "mixed": each 16th to all, and each 16th
 *                                 to an address that nobody has. WINDOW: so many may be under way;
 *                                 negative: so many may be in the sender's ring, and frames may be
 *                                 lost. TO is FROM: frames that any guest of its domains may get
 *   evil FROM COUNT               frames that nobody may get: of random sources and VLANs, with the
 *                                 own source and a VLAN from 100, with sources of the other guests
 *
 * Each of the following is answered by one line:
 *
 *   domains GUEST SEES SENDS      what it may see from now on, and where its frames may be seen
 *   go FLOW|evil ..., hold FLOW|evil ...  send, or not
 *   count FLOW|evil               "SENT ARRIVED LOST NS GAP": frames, the time, and how long this
 *                                 program did not run at most since it was asked last; evil: how
 *                                 many of them arrived
 *   wrong                         "N TEXT": frames that came to who may not get them, or other
 *                                 than they were sent; TEXT is about the first
 */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_byteorder.h>
#include <rte_common.h>
#include <rte_ether.h>

#include "bench/ring.h"
#include "bench/timing.h"

#define GUESTS_MAX 64
#define FLOWS_MAX 64
#define BURST 32
#define HEADER_LEN 12
#define FRAME_MIN 60
#define TEST_TYPE RTE_BE16(0x88b5)
#define VLAN_OF_BIT(n) (10 * ((n) + 1))
#define EVIL_VLAN_MIN 100
#define PASSES 64 /* between two looks at stdin */

enum kinds { UNICAST, BROADCAST, MIXED };

struct guest {
	struct ring rx, tx;
	struct rte_ether_addr mac;
	uint8_t *memory;
	unsigned int size, stride;
	uint32_t sees, sends; /* domains */
	unsigned int nb_rings;
	bool is_packed;
	uint16_t free[32768], nb_free; /* of the sending ring */
};

struct flow {
	struct guest *from, *to;
	int window;
	enum kinds kinds;
	bool is_on;
	uint64_t sent, arrived, next, lost;
};

/* In each frame, after its type. */
struct mark {
	uint16_t flow;
	uint16_t pad;
	uint32_t domains, number_low, number_high;
} __attribute__((packed));

#define EVIL 0xe711

static struct guest guest[GUESTS_MAX];
static struct flow flow[FLOWS_MAX];
static unsigned int nb_guests, nb_flows;
static uint32_t frame_len;
static struct {
	struct guest *from;
	uint64_t count, sent, arrived;
	bool is_on;
} evil;
static uint64_t wrong, longest_gap, last_pass;
static char first_wrong[512];

static void
die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

static uint64_t
random_word(void)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13; /* xorshift64 */
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void __attribute__((format(printf, 2, 3)))
note_wrong(const uint8_t *frame, const char *format, ...)
{
	va_list args;
	size_t n;
	unsigned int i;

	if (wrong++ > 0)
		return;
	va_start(args, format);
	n = (size_t)vsnprintf(first_wrong, 256, format, args);
	va_end(args);
	for (i = 0; i < 40; i++)
		n += (size_t)snprintf(first_wrong + n, sizeof(first_wrong) - n, "%s%02x",
			i == 0 ? ": " : "", frame[i]);
}

static void
add_guest(const char *line)
{
	struct guest *g = &guest[nb_guests];
	uint8_t *mac = g->mac.addr_bytes;
	unsigned int packed;
	char path[256];
	size_t length;
	int fd, n;

	n = sscanf(line, "guest %255s %zu %u %u %u %u %hhx:%hhx:%hhx:%hhx:%hhx:%hhx", path, &length,
		&g->size, &g->stride, &packed, &g->sees, &mac[0], &mac[1], &mac[2], &mac[3],
		&mac[4], &mac[5]);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (n != 12 || nb_guests == GUESTS_MAX || fd < 0 || g->size > RTE_DIM(g->free) ||
			g->stride < HEADER_LEN + frame_len + RTE_VLAN_HLEN)
		die("guest");
	g->memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (g->memory == MAP_FAILED)
		die("mmap");
	g->is_packed = packed;
	g->sends = g->sees;
	nb_guests++;
}

static void
add_ring(const char *line)
{
	struct guest *g = &guest[nb_guests - 1];
	struct ring *r = g->nb_rings == 0 ? &g->rx : &g->tx;
	size_t desc, avail, used, buffers;
	uint16_t id;

	if (nb_guests == 0 || g->nb_rings++ == 2 ||
			sscanf(line, "ring %zu %zu %zu %zu", &desc, &avail, &used, &buffers) != 4)
		die("ring");
	*r = (struct ring){ .desc = (void *)(g->memory + desc),
		.avail = (void *)(g->memory + avail), .used = (void *)(g->memory + used),
		.buffers = g->memory + buffers, .size = (uint16_t)g->size };
	if (g->is_packed) {
		r->packed = (void *)(g->memory + desc);
		r->desc = calloc(g->size, sizeof(r->desc[0]));
		if (r->desc == NULL)
			die("calloc");
	}
	ring_silence(r);
	for (id = 0; id < g->size; id++) {
		r->desc[id].addr = buffers + (size_t)id * g->stride;
		if (r == &g->tx) {
			r->desc[id].len = HEADER_LEN + frame_len;
			g->free[g->nb_free++] = id;
			continue;
		}
		r->desc[id].len = g->stride;
		r->desc[id].flags = VRING_DESC_F_WRITE;
		ring_offer(r, id);
	}
	ring_publish(r);
}

static void
add_flow(const char *line)
{
	struct flow *f = &flow[nb_flows];
	unsigned int from, to;
	char kinds[16];

	if (nb_flows == FLOWS_MAX || sscanf(line, "flow %u %u %d %15s", &from, &to, &f->window,
			kinds) != 4 || from >= nb_guests || to >= nb_guests)
		die("flow");
	f->from = &guest[from];
	f->to = &guest[to];
	f->kinds = kinds[0] == 'u' ? UNICAST : kinds[0] == 'b' ? BROADCAST : MIXED;
	nb_flows++;
}

/* Take back what was sent. */
static void
reclaim(struct guest *g)
{
	uint16_t n = ring_arrived(&g->tx, 0);

	while (n-- > 0)
		g->free[g->nb_free++] = (uint16_t)ring_take(&g->tx).id;
}

/* The next free buffer of a sender: its frame. */
static uint8_t *
next_frame(struct guest *g, uint16_t *id)
{
	*id = g->free[--g->nb_free];
	return g->tx.buffers + (size_t)*id * g->stride + HEADER_LEN;
}

static enum kinds
kind_of(const struct flow *f, uint64_t number)
{
	if (number == 0 || f->kinds == BROADCAST)
		return BROADCAST; /* the first makes the sender known */
	if (f->kinds == UNICAST || number % 8 != 0)
		return UNICAST;
	return number % 16 == 0 ? BROADCAST : MIXED;
}

static void
write_frame(const struct flow *f, uint8_t *frame)
{
	struct rte_ether_hdr *eth = (void *)frame;
	const struct mark mark = { (uint16_t)(f - flow), 0, f->from->sends, (uint32_t)f->sent,
		(uint32_t)(f->sent >> 32) };

	eth->dst_addr = f->to->mac;
	switch (kind_of(f, f->sent)) {
	case BROADCAST:
		memset(&eth->dst_addr, 0xff, sizeof(eth->dst_addr));
		break;
	case MIXED:
		eth->dst_addr.addr_bytes[0] = 0x06;
		memcpy(&eth->dst_addr.addr_bytes[1], &mark.number_low, sizeof(mark.number_low));
		break;
	default:
		break;
	}
	eth->src_addr = f->from->mac;
	eth->ether_type = TEST_TYPE;
	memcpy(eth + 1, &mark, sizeof(mark));
}

/* Whether each flow that is on has been heard, so that all addresses are known. */
static bool
all_known(void)
{
	unsigned int i;

	for (i = 0; i < nb_flows; i++)
		if (flow[i].is_on && (flow[i].sent == 0 ||
				(flow[i].window > 0 && flow[i].arrived == 0)))
			return false;
	return true;
}

static unsigned int
room_of(const struct flow *f, bool is_known)
{
	uint64_t under_way = f->window > 0 ? f->sent - f->arrived - f->lost :
		(uint64_t)(f->from->size - f->from->nb_free);
	uint64_t window = (uint64_t)abs(f->window);

	if (!is_known)
		return f->sent == 0;
	return (unsigned int)RTE_MIN(under_way < window ? window - under_way : 0, (uint64_t)BURST);
}

static void
send_flow(struct flow *f, bool is_known)
{
	struct guest *g = f->from;
	unsigned int n = room_of(f, is_known);
	uint16_t id;

	for (; n > 0 && g->nb_free > 0; n--) {
		write_frame(f, next_frame(g, &id));
		f->sent++;
		g->tx.desc[id].len = HEADER_LEN + frame_len;
		ring_offer(&g->tx, id);
	}
	ring_publish(&g->tx);
}

/* A frame that the switch has to drop whatever it knows. Returns its length. */
static uint32_t
write_evil(uint8_t *frame)
{
	static const struct rte_ether_addr all = { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } };
	struct rte_ether_hdr *eth = (void *)frame;
	struct mark mark = { EVIL, 0, 0, (uint32_t)evil.sent, (uint32_t)(evil.sent >> 32) };
	uint64_t r = random_word(), what = r % 8, to = (r >> 8) % (nb_guests + 3);
	uint16_t tci = (uint16_t)(r >> 16);
	struct rte_vlan_hdr *tag = (void *)(eth + 1);
	uint8_t *data = (uint8_t *)tag;
	unsigned int tags = (r >> 3) % 4; /* none in a half of all cases */

	if (r >> 63) /* VLANs that there are, half of the time */
		tci = (uint16_t)((tci & 0xf000) | VLAN_OF_BIT(tci % 4));
	r = random_word();
	memcpy(&eth->src_addr, &r, sizeof(eth->src_addr));
	eth->src_addr.addr_bytes[0] &= 0xfe;
	if (what < 2)
		eth->src_addr = what == 0 ? guest[r % nb_guests].mac : evil.from->mac;
	if (memcmp(&eth->src_addr, &evil.from->mac, sizeof(eth->src_addr)) == 0) {
		tci = (uint16_t)((tci & 0xf000) |
			(EVIL_VLAN_MIN + (tci & 0xfff) % (4096 - EVIL_VLAN_MIN)));
		tags |= 1;
	}
	eth->dst_addr = to < nb_guests ? guest[to].mac : all;
	if (to == nb_guests) {
		memcpy(&eth->dst_addr, (uint8_t *)&r + 2, sizeof(eth->dst_addr));
		eth->dst_addr.addr_bytes[0] = (uint8_t)(to % 2); /* multicast as well */
	}
	eth->ether_type = TEST_TYPE;
	if (tags == 1 || tags == 3) {
		eth->ether_type = RTE_BE16(RTE_ETHER_TYPE_VLAN);
		*tag = (struct rte_vlan_hdr){ rte_cpu_to_be_16(tci), TEST_TYPE };
		if (tags == 3)
			tag->eth_proto = RTE_BE16(RTE_ETHER_TYPE_VLAN);
		data += sizeof(*tag);
	}
	mark.pad = (uint16_t)(tags | what << 8); /* how it was sent */
	mark.domains = tci;
	memcpy(data, &mark, sizeof(mark));
	return FRAME_MIN + (uint32_t)(r >> 40) % (frame_len + 1 - FRAME_MIN);
}

static void
send_evil(void)
{
	struct guest *g = evil.from;
	unsigned int n;
	uint16_t id;

	for (n = 0; n < BURST && g->nb_free > 0 && evil.sent < evil.count; n++) {
		uint32_t len = write_evil(next_frame(g, &id));

		evil.sent++;
		g->tx.desc[id].len = HEADER_LEN + len;
		ring_offer(&g->tx, id);
	}
	ring_publish(&g->tx);
}

/* The number of the frames that a flow's receiver gets. */
static void
note_number(struct flow *f, uint64_t number, const uint8_t *frame)
{
	if (number < f->next || number >= f->sent) {
		note_wrong(frame, "number %" PRIu64 " of flow %td, not %" PRIu64, number, f - flow,
			f->next);
		return;
	}
	if (number > f->next && f->window > 0)
		note_wrong(frame, "number %" PRIu64 " of flow %td, not %" PRIu64, number, f - flow,
			f->next);
	f->lost += number - f->next;
	f->next = number + 1;
	f->arrived++;
}

static void
look_at(struct guest *g, const uint8_t *frame, uint32_t len)
{
	const struct rte_ether_hdr *eth = (const void *)frame;
	const struct rte_vlan_hdr *tag = (const void *)(eth + 1);
	const rte_be16_t from_a_kernel = RTE_BE16(RTE_ETHER_TYPE_IPV6); /* at an uplink */
	const uint8_t *data = (const uint8_t *)tag;
	int vlan = -1;
	uint64_t number;
	struct mark mark;
	struct flow *f;

	if (eth->ether_type == RTE_BE16(RTE_ETHER_TYPE_VLAN)) {
		vlan = rte_be_to_cpu_16(tag->vlan_tci) & 0xfff;
		data += sizeof(*tag);
	}
	if (memcmp(data - sizeof(tag->eth_proto), &from_a_kernel, sizeof(from_a_kernel)) == 0)
		return;
	memcpy(&mark, data, sizeof(mark));
	if (mark.flow >= nb_flows) {
		evil.arrived++;
		note_wrong(frame, "evil at guest %td", g - guest);
		return;
	}
	f = &flow[mark.flow];
	number = mark.number_low | (uint64_t)mark.number_high << 32;
	if (len != frame_len + (vlan >= 0 ? RTE_VLAN_HLEN : 0))
		note_wrong(frame, "%u bytes at guest %td", len, g - guest);
	if ((mark.domains & g->sees) == 0 || (vlan >= 0 && (vlan == 0 || vlan % 10 != 0 ||
			(mark.domains >> (vlan / 10 - 1) & 1) == 0)))
		note_wrong(frame, "of domains %x at guest %td, which may see %x", mark.domains,
			g - guest, g->sees);
	else if (f->from == g)
		note_wrong(frame, "back at guest %td", g - guest);
	else if (f->to == g)
		note_number(f, number, frame);
	else if (f->from != f->to && kind_of(f, number) == UNICAST)
		note_wrong(frame, "of flow %td at guest %td", f - flow, g - guest);
}

static void
receive(struct guest *g)
{
	uint16_t n = ring_arrived(&g->rx, 0);

	for (; n > 0; n--) {
		struct vring_used_elem e = ring_take(&g->rx);

		if (e.id >= g->size || e.len < HEADER_LEN + RTE_ETHER_HDR_LEN)
			die("a buffer that there is not");
		look_at(g, g->rx.buffers + (size_t)e.id * g->stride + HEADER_LEN,
			e.len - HEADER_LEN);
		ring_offer(&g->rx, (uint16_t)e.id);
	}
	ring_publish(&g->rx);
}

static void
pass(void)
{
	uint64_t now = now_ns();
	bool is_known = all_known();
	unsigned int i;

	longest_gap = RTE_MAX(longest_gap, now - last_pass);
	last_pass = now;
	for (i = 0; i < nb_guests; i++)
		reclaim(&guest[i]);
	for (i = 0; i < nb_flows; i++)
		if (flow[i].is_on)
			send_flow(&flow[i], is_known);
	if (evil.is_on)
		send_evil();
	for (i = 0; i < nb_guests; i++)
		receive(&guest[i]);
}

/* Of flows in the other commands: NULL is what "evil" stands for. */
static struct flow *
flow_of(const char *name)
{
	unsigned int i = (unsigned int)atoi(name);

	if (strcmp(name, "evil") == 0)
		return NULL;
	if (i >= nb_flows)
		die(name);
	return &flow[i];
}

static void
count(const struct flow *f)
{
	uint64_t gap = longest_gap;

	longest_gap = 0;
	if (f == NULL) /* of those that are taken */
		printf("%" PRIu64 " %" PRIu64 " 0 %" PRIu64 " %" PRIu64 "\n",
			evil.sent - (evil.from->size - evil.from->nb_free), evil.arrived, last_pass,
			gap);
	else
		printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", f->sent,
			f->arrived, f->lost, last_pass, gap);
}

/* What it has sent is gone then, and what has come is of what it was to see. */
static void
set_domains(struct guest *g, uint32_t sees, uint32_t sends)
{
	uint16_t sent = g->tx.avail_idx;

	g->sends = sends;
	do
		pass();
	while ((int16_t)(g->tx.used_idx - sent) < 0);
	g->sees = sees;
}

static void
switch_flows(const char *line)
{
	const char *at = strchr(line, ' ');
	char name[16];
	int n;

	for (; at != NULL && sscanf(at, "%15s%n", name, &n) == 1; at += n) {
		struct flow *f = flow_of(name);

		*(f != NULL ? &f->is_on : &evil.is_on) = line[0] == 'g';
	}
	puts("ok");
}

static void
command(const char *line)
{
	unsigned int a, b, c;
	char name[16];

	if (strncmp(line, "guest ", 6) == 0) {
		add_guest(line);
	} else if (strncmp(line, "ring ", 5) == 0) {
		add_ring(line);
	} else if (strncmp(line, "flow ", 5) == 0) {
		add_flow(line);
	} else if (sscanf(line, "evil %u %" SCNu64, &a, &evil.count) == 2) {
		evil.from = &guest[a % nb_guests];
	} else if (sscanf(line, "domains %u %u %u", &a, &b, &c) == 3) {
		set_domains(&guest[a % nb_guests], b, c);
		puts("ok");
	} else if (strncmp(line, "go ", 3) == 0 || strncmp(line, "hold ", 5) == 0) {
		switch_flows(line);
	} else if (sscanf(line, "count %15s", name) == 1) {
		count(flow_of(name));
	} else {
		printf("%" PRIu64 " %s\n", wrong, first_wrong);
	}
}

/* Whether there is a line to be read, in a buffer or on its way. */
static bool
next_line(char *line, size_t size)
{
	static char text[8192];
	static size_t n;
	struct pollfd p = { .fd = STDIN_FILENO, .events = POLLIN };
	char *end = memchr(text, '\n', n);
	ssize_t more;

	if (end == NULL && poll(&p, 1, 0) > 0) {
		more = read(STDIN_FILENO, text + n, sizeof(text) - n);
		if (more <= 0)
			exit(EXIT_SUCCESS);
		n += (size_t)more;
		end = memchr(text, '\n', n);
	}
	if (end == NULL || (size_t)(end - text) >= size)
		return false;
	memcpy(line, text, (size_t)(end - text));
	line[end - text] = '\0';
	n -= (size_t)(end + 1 - text);
	memmove(text, end + 1, n);
	return true;
}

int
main(int argc, char **argv)
{
	char line[512];
	unsigned int i;

	frame_len = argc == 2 ? (uint32_t)atoi(argv[1]) - RTE_ETHER_CRC_LEN : 0;
	if (frame_len < FRAME_MIN || frame_len > 9000) {
		fprintf(stderr, "usage: flood FRAME-BYTES\n");
		return EXIT_FAILURE;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	last_pass = now_ns();
	for (;;) {
		while (next_line(line, sizeof(line)))
			command(line);
		for (i = 0; i < PASSES; i++)
			pass();
	}
}
