/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Every pair of guests, with frames that ask for a checksum or segments: all ports that EAL finds
 * (virtio_user), on one lcore. For each is said which it is: a number of queue pairs, and "m" if it
 * merges receive buffers, which have 2 KB then and 64 KB else.
 *
 *   offloads EAL-ARGS -- none|csum|all FRAMES 1|1m|4|4m ...
 *
 * All ports send frames of all kinds. They receive what was negotiated: nothing that asks for
 * something, checksums, or segmentation too. So many frames are sent of each kind and size between
 * each two ports, of several flows at once. "ready", and a line of input begins it. "N turns, M
 * frames" at the end, and the end of input ends it; before that, "wrong" and what it was.
 */
#define MADE_MAX 65536u
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "tests/unit/requests.h"

#define BURST 32
#define RX_RING 128
#define TX_RING 64
#define FLOWS 4

/* How long frames that are sure to come may take on a busy machine. */
#define TIMEOUT_MS 5000

struct port {
	struct rte_ether_addr mac;
	uint16_t queues;
	bool mergeable;
};

/* What is sent: kinds of flows 0, 1, ...; bytes with the CRC; MSS; most frames on their way. */
static const struct turn {
	enum kind kind[FLOWS];
	uint32_t size;
	uint16_t mss, window;
} turns[] = {
	{ { PLAIN, PLAIN, PLAIN, PLAIN }, 64, 0, 16 },
	{ { PLAIN, PLAIN, PLAIN, PLAIN }, 1518, 0, 16 },
	{ { PLAIN, PLAIN, PLAIN, PLAIN }, 9000, 0, 8 },
	{ { TCP4, UDP4, TCP4, UDP4 }, 64, 0, 16 },
	{ { TCP6, UDP6, TCP6, UDP6 }, 90, 0, 16 },
	{ { TCP4, UDP4, TCP6, UDP6 }, 1518, 0, 16 },
	{ { TCP4, UDP4, TCP6, UDP6 }, 9000, 0, 8 },
	{ { TSO4, TSO4, TSO4, TSO4 }, 90, 8, 8 },
	{ { TSO4, TSO4, TSO4, TSO4 }, 1518, 100, 4 },
	{ { TSO4, TSO4, TSO4, TSO4 }, 9000, 536, 4 },
	{ { TSO4, TSO4, TSO4, TSO4 }, 65000, 1448, 2 },
	{ { TSO6, TSO6, TSO6, TSO6 }, 98, 8, 8 },
	{ { TSO6, TSO6, TSO6, TSO6 }, 1518, 100, 4 },
	{ { TSO6, TSO6, TSO6, TSO6 }, 9000, 536, 4 },
	{ { TSO6, TSO6, TSO6, TSO6 }, 65000, 1428, 2 },
};

static struct rte_mempool *small, *large;
static struct port port[RTE_MAX_ETHPORTS];
static uint16_t nb_ports;
static uint64_t features; /* of receivers */
static uint64_t nb_turns, nb_frames;

/* Of each flow: frames that are on their way, and of the first of them what has come. */
static struct {
	struct made made[BURST];
	uint16_t n;
	uint32_t parts, queue;
} flow[FLOWS];

static void
die(const char *what, int ret)
{
	fprintf(stderr, "offloads: %s: %s\n", what, strerror(-ret));
	exit(EXIT_FAILURE);
}

static struct rte_mempool *
pool_of(uint16_t p)
{
	return port[p].mergeable ? small : large;
}

static void
start_port(uint16_t p)
{
	struct rte_eth_conf conf = { .rxmode = { .mtu = 9000 },
		.txmode = { .offloads = RTE_ETH_TX_OFFLOAD_MULTI_SEGS |
			RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM |
			RTE_ETH_TX_OFFLOAD_TCP_TSO } };
	uint16_t q;
	int ret;

	conf.rxmode.offloads = port[p].mergeable ? RTE_ETH_RX_OFFLOAD_SCATTER : 0;
	if (features != 0)
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
	if (features & BIT(VIRTIO_NET_F_GUEST_TSO4))
		conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_TCP_LRO;
	ret = rte_eth_dev_configure(p, port[p].queues, port[p].queues, &conf);
	for (q = 0; q < port[p].queues && ret == 0; q++) {
		ret = rte_eth_rx_queue_setup(p, q, RX_RING, 0, NULL, pool_of(p));
		if (ret == 0)
			ret = rte_eth_tx_queue_setup(p, q, TX_RING, 0, NULL);
	}
	if (ret == 0)
		ret = rte_eth_dev_start(p);
	if (ret == 0)
		ret = rte_eth_macaddr_get(p, &port[p].mac);
	if (ret < 0)
		die("cannot start a port", ret);
}

/*
 * A frame in one mbuf or, if it is long and the port merges, in more than the driver puts into a
 * table of indirect descriptors: it leaves the ids of such in a packed ring as they were (DPDK
 * 22.11, virtqueue_enqueue_xmit_packed()), and gets them back for other buffers than it means.
 */
static struct rte_mbuf *
mbuf_of(uint16_t p, const uint8_t *f, uint32_t len)
{
	struct rte_mempool *pool = len > 2000 && len < 20000 ? large : pool_of(p);
	struct rte_mbuf *first = NULL, *m;
	uint16_t part;

	while (len > 0) {
		m = rte_pktmbuf_alloc(pool);
		if (m == NULL)
			die("no mbuf", -ENOMEM);
		part = (uint16_t)RTE_MIN(len, (uint32_t)rte_pktmbuf_tailroom(m));
		memcpy(rte_pktmbuf_append(m, part), f, part);
		f += part;
		len -= part;
		if (first == NULL)
			first = m;
		else if (rte_pktmbuf_chain(first, m) < 0)
			die("chain", -EOVERFLOW);
	}
	return first;
}

/* What a driver is told of the frame, from which it writes the header. */
static void
set_request(struct rte_mbuf *m, const struct made *made)
{
	if (made->kind == PLAIN)
		return;
	m->l2_len = 14;
	m->l3_len = made->l4 - 14;
	m->l4_len = made->headers - made->l4;
	m->ol_flags |= is_v6(made->kind) ? RTE_MBUF_F_TX_IPV6 : RTE_MBUF_F_TX_IPV4;
	m->ol_flags |= is_udp(made->kind) ? RTE_MBUF_F_TX_UDP_CKSUM : RTE_MBUF_F_TX_TCP_CKSUM;
	if (is_tso(made->kind)) {
		m->ol_flags |= RTE_MBUF_F_TX_TCP_SEG;
		m->tso_segsz = made->header.gso_size;
	}
}

/* Send a frame of a flow, always by the same ring. */
static void
send_one(uint16_t from, uint16_t to, unsigned int f, const struct turn *t, unsigned int number)
{
	struct made *made = &flow[f].made[flow[f].n++];
	uint64_t end = rte_rdtsc() + TIMEOUT_MS * rte_get_tsc_hz() / 1000;
	enum kind kind = t->kind[f];
	uint32_t options = t->size > 1000 && number % 2 ? 12 : 0, headers;
	struct rte_mbuf *m;

	headers = kind == PLAIN ? 14 : (is_v6(kind) ? 54 : 34) + (is_udp(kind) ? 8 : 20 + options);
	make_frame(made, kind, &port[to].mac, &port[from].mac, (uint16_t)f, (uint8_t)number,
		t->size - 4 - headers, t->mss, options, false);
	m = mbuf_of(from, made->f, made->len);
	set_request(m, made);
	while (rte_eth_tx_burst(from, (uint16_t)(f % port[from].queues), &m, 1) == 0) {
		if (rte_rdtsc() < end)
			continue;
		printf("wrong: port %u cannot send frame %u to port %u, kind %u of %u bytes\n",
			from, number, to, kind, made->len);
		exit(EXIT_FAILURE);
	}
}

/* A frame as virtio-net's header had it, as far as the driver tells of that. */
static void
read_mbuf(const struct rte_mbuf *m, const struct made *made, struct got *g)
{
	const void *at = rte_pktmbuf_read(m, 0, RTE_MIN(m->pkt_len, (uint32_t)sizeof(g->f)), g->f);

	if (at != g->f)
		memcpy(g->f, at, RTE_MIN(m->pkt_len, (uint32_t)sizeof(g->f)));
	g->len = m->pkt_len;
	g->header = (struct virtio_net_hdr){ 0 };
	if ((m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_NONE)
		g->header = made->header;
	g->header.gso_size = m->ol_flags & RTE_MBUF_F_RX_LRO ? m->tso_segsz : 0;
}

/* Which flow a frame is of, by its port; all frames without one are of flow 0. */
static unsigned int
flow_of(const struct rte_mbuf *m, const struct turn *t)
{
	uint8_t bytes[2];
	uint32_t at = get16(rte_pktmbuf_mtod_offset(m, const uint8_t *, 12)) == 0x86dd ? 54 : 34;
	const uint8_t *p = rte_pktmbuf_read(m, at, 2, bytes);

	return t->kind[0] == PLAIN || p == NULL ? 0 : get16(p) / 3 % FLOWS;
}

/* Compare a frame with the one that its flow is to bring next. Returns whether one is complete. */
static bool
receive_one(uint16_t to, uint32_t queue, const struct rte_mbuf *m, const struct turn *t)
{
	static struct got g;
	unsigned int f = flow_of(m, t);
	struct made *made = flow[f].made;

	if (*rte_pktmbuf_mtod(m, const uint8_t *) & 1) /* an introduction that is late */
		return false;
	read_mbuf(m, made, &g);
	if (flow[f].n == 0 || !is_right(&g, made, flow[f].parts, features, false)) {
		printf("wrong: port %u got %u bytes of flow %u, kind %u of %u bytes, part %u\n", to,
			m->pkt_len, f, made->kind, made->len, flow[f].parts);
		return false;
	}
	if (flow[f].queue != queue && flow[f].queue != UINT32_MAX)
		printf("wrong: port %u got flow %u by rings %u and %u\n", to, f, flow[f].queue,
			queue);
	flow[f].queue = queue;
	if (++flow[f].parts < made_count(made, features))
		return false;
	flow[f].parts = 0;
	flow[f].n--;
	memmove(made, made + 1, flow[f].n * sizeof(*made));
	return true;
}

/* Receive what has come. Returns how many frames are complete now. */
static unsigned int
receive(uint16_t to, const struct turn *t)
{
	struct rte_mbuf *frames[BURST];
	unsigned int complete = 0;
	uint16_t q, i, n;

	for (q = 0; q < port[to].queues; q++) {
		n = rte_eth_rx_burst(to, q, frames, BURST);
		for (i = 0; i < n; i++)
			complete += receive_one(to, q, frames[i], t);
		rte_pktmbuf_free_bulk(frames, n);
	}
	return complete;
}

static void
try_turn(uint16_t from, uint16_t to, const struct turn *t, unsigned int frames)
{
	uint64_t end = rte_rdtsc() + TIMEOUT_MS * rte_get_tsc_hz() / 1000;
	unsigned int sent = 0, done = 0, f;

	for (f = 0; f < FLOWS; f++) {
		flow[f].n = 0;
		flow[f].parts = 0;
		flow[f].queue = UINT32_MAX;
	}
	while (done < frames && rte_rdtsc() < end) {
		for (; sent < frames && sent - done < t->window; sent++)
			send_one(from, to, t->kind[0] == PLAIN ? 0 : sent % FLOWS, t, sent);
		done += receive(to, t);
	}
	if (done < frames)
		printf("wrong: port %u got %u of %u frames of port %u, kind %u, %u bytes\n", to,
			done, frames, from, t->kind[0], t->size);
	nb_turns++;
	nb_frames += done;
}

static void
drain(void)
{
	struct rte_mbuf *frames[BURST];
	uint16_t p, q, n;

	for (p = 0; p < nb_ports; p++) {
		for (q = 0; q < port[p].queues; q++) {
			while ((n = rte_eth_rx_burst(p, q, frames, BURST)) > 0)
				rte_pktmbuf_free_bulk(frames, n);
		}
	}
}

/* Each guest is heard, and all hear it, until the switch is said to know them all. */
static void
introduce(void)
{
	const struct rte_ether_addr all = { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff } };
	struct pollfd input = { .fd = 0, .events = POLLIN };
	uint16_t p;

	puts("ready");
	do {
		drain();
		for (p = 0; p < nb_ports; p++) {
			uint8_t f[60] = { 0 };
			struct rte_mbuf *m;

			memcpy(f, &all, 6);
			memcpy(f + 6, &port[p].mac, 6);
			m = mbuf_of(p, f, sizeof(f));
			if (rte_eth_tx_burst(p, 0, &m, 1) == 0)
				rte_pktmbuf_free(m);
		}
	} while (poll(&input, 1, 500) == 0);
	(void)getchar();
	rte_delay_ms(50);
	drain();
}

static void
read_arguments(int argc, char **argv)
{
	int i;

	if (argc < 4)
		die("usage: offloads EAL-ARGS -- none|csum|all FRAMES 1|1m|4|4m ...", -EINVAL);
	if (strcmp(argv[1], "none") != 0)
		features = BIT(VIRTIO_NET_F_GUEST_CSUM);
	if (strcmp(argv[1], "all") == 0)
		features |= BIT(VIRTIO_NET_F_GUEST_TSO4) | BIT(VIRTIO_NET_F_GUEST_TSO6);
	for (i = 3; i < argc && i - 3 < RTE_MAX_ETHPORTS; i++) {
		port[i - 3].queues = (uint16_t)atoi(argv[i]);
		port[i - 3].mergeable = strchr(argv[i], 'm') != NULL;
	}
	nb_ports = (uint16_t)(i - 3);
	if (nb_ports != rte_eth_dev_count_avail())
		die("other ports than EAL has", -EINVAL);
}

int
main(int argc, char **argv)
{
	uint16_t from, to;
	unsigned int i, frames;
	int used = rte_eal_init(argc, argv);

	if (used < 0)
		die("EAL", -EINVAL);
	read_arguments(argc - used, argv + used);
	frames = (unsigned int)atoi(argv[used + 2]);
	small = rte_pktmbuf_pool_create("small", 16383, 64, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	large = rte_pktmbuf_pool_create("large", 5119, 64, 0, 65535, 0);
	if (small == NULL || large == NULL)
		die("no memory", -ENOMEM);
	for (from = 0; from < nb_ports; from++)
		start_port(from);
	setvbuf(stdout, NULL, _IOLBF, 0);
	introduce();
	for (from = 0; from < nb_ports; from++) {
		for (to = 0; to < nb_ports; to++) {
			for (i = 0; i < RTE_DIM(turns) && from != to; i++)
				try_turn(from, to, &turns[i], frames);
		}
	}
	printf("%" PRIu64 " turns, %" PRIu64 " frames\n", nb_turns, nb_frames);
	(void)getchar(); /* the end of input: the switch's counters have been read */
	for (from = 0; from < nb_ports; from++)
		rte_eth_dev_stop(from);
	return EXIT_SUCCESS;
}
