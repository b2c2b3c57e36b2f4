/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bytes that both ends know, over TCP and UDP, for VMs: every one of them is compared.
 *
 *   flow serve                        answer, on port 5000 of all addresses, without end
 *   flow put|get ADDRESS MIB [MSS]    so many MiB by TCP, to the server or from it
 *   flow udp ADDRESS MIB              the same in datagrams of 1400 bytes, to the server
 *
 * A client prints one line: "flow put ADDRESS MSS: N MiB, hash H, E errors, R retransmitted, T ms";
 * H is the sum that both ends agree upon.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PORT "5000"
#define WORDS 8192	  /* of 8 bytes, that are made at once */
#define DATAGRAM 175	  /* words */
#define WINDOW 64	  /* datagrams that are not acknowledged at most */
#define TIMEOUT_MS 3000	  /* for an acknowledgement */

struct request {
	uint64_t bytes;
	uint64_t get; /* the server sends */
};

struct result {
	uint64_t hash, errors;
};

/* Where the stream is, and what it was so far. */
struct stream {
	uint64_t state, hash;
};

static void
die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

static uint64_t
next_word(struct stream *s)
{
	s->state ^= s->state << 13; /* xorshift64 */
	s->state ^= s->state >> 7;
	s->state ^= s->state << 17;
	s->hash = (s->hash ^ s->state) * UINT64_C(1099511628211); /* FNV-1a, by words */
	return s->state;
}

static const struct stream start_of_stream = { 88172645463325252u, 14695981039346656037u };

static bool
write_all(int fd, const void *from, size_t n)
{
	const char *at = from;

	while (n > 0) {
		ssize_t done = write(fd, at, n);

		if (done <= 0)
			return false;
		at += done;
		n -= (size_t)done;
	}
	return true;
}

static bool
read_all(int fd, void *to, size_t n)
{
	char *at = to;

	while (n > 0) {
		ssize_t done = read(fd, at, n);

		if (done <= 0)
			return false;
		at += done;
		n -= (size_t)done;
	}
	return true;
}

/* Send the stream, or receive and compare it. */
static bool
move_bytes(int fd, uint64_t bytes, bool send, struct result *r)
{
	static __thread uint64_t words[WORDS];
	struct stream s = start_of_stream;
	uint64_t left = bytes / 8;
	unsigned int i;

	for (r->errors = 0; left > 0; left -= i) {
		unsigned int n = left < WORDS ? (unsigned int)left : WORDS;

		if (!send && !read_all(fd, words, n * sizeof(words[0])))
			return false;
		for (i = 0; i < n; i++) {
			uint64_t word = next_word(&s);

			if (!send)
				r->errors += words[i] != word;
			words[i] = word;
		}
		if (send && !write_all(fd, words, n * sizeof(words[0])))
			return false;
	}
	r->hash = s.hash;
	return true;
}

static void
answer_tcp(int listener)
{
	int fd = accept(listener, NULL, NULL);
	struct request q;
	struct result r;

	if (fd >= 0 && read_all(fd, &q, sizeof(q)) && move_bytes(fd, q.bytes, q.get, &r))
		(void)!write_all(fd, &r, sizeof(r));
	close(fd);
}

/* A datagram: its number, and words that follow from it. */
static void
make_datagram(uint64_t *words, uint64_t number)
{
	struct stream s = { (number + 1) * start_of_stream.state, 0 };
	unsigned int i;

	words[0] = number;
	for (i = 1; i < DATAGRAM; i++)
		words[i] = next_word(&s);
}

/* Each is acknowledged by its number, UINT64_MAX if it is not as it should be. */
static void
answer_udp(int fd)
{
	uint64_t got[DATAGRAM + 1], want[DATAGRAM];
	struct sockaddr_storage from;
	socklen_t len = sizeof(from);
	ssize_t n = recvfrom(fd, got, sizeof(got), 0, (void *)&from, &len);

	make_datagram(want, got[0]);
	if (n != sizeof(want) || memcmp(got, want, sizeof(want)) != 0)
		got[0] = UINT64_MAX;
	(void)!sendto(fd, got, sizeof(got[0]), 0, (void *)&from, len);
}

static void __attribute__((noreturn))
serve(void)
{
	const struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(5000) };
	struct pollfd fds[2] = { { .events = POLLIN }, { .events = POLLIN } };
	const int on = 1, room = 1 << 20;

	fds[0].fd = socket(AF_INET6, SOCK_STREAM, 0);
	fds[1].fd = socket(AF_INET6, SOCK_DGRAM, 0);
	setsockopt(fds[0].fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fds[1].fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (bind(fds[0].fd, (const void *)&any, sizeof(any)) < 0 || listen(fds[0].fd, 9) < 0 ||
			bind(fds[1].fd, (const void *)&any, sizeof(any)) < 0)
		die("serve");
	for (;;) {
		if (poll(fds, 2, -1) < 0)
			die("poll");
		if (fds[0].revents)
			answer_tcp(fds[0].fd);
		if (fds[1].revents)
			answer_udp(fds[1].fd);
	}
}

static int
connect_to(const char *address, int type, int mss)
{
	struct addrinfo hints = { .ai_socktype = type, .ai_flags = AI_NUMERICHOST }, *a;
	int fd;

	if (getaddrinfo(address, PORT, &hints, &a) != 0)
		die(address);
	fd = socket(a->ai_family, type, 0);
	if (mss > 0 && setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, sizeof(mss)) < 0)
		die("MSS");
	if (connect(fd, a->ai_addr, a->ai_addrlen) < 0)
		die("connect");
	freeaddrinfo(a);
	return fd;
}

static uint64_t
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void
tcp(const char *how, const char *address, uint64_t mib, int mss)
{
	struct request q = { mib << 20, strcmp(how, "get") == 0 };
	struct result mine, other;
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	uint64_t begin = now_ms();
	int fd = connect_to(address, SOCK_STREAM, mss);

	if (!write_all(fd, &q, sizeof(q)) || !move_bytes(fd, q.bytes, !q.get, &mine) ||
			!read_all(fd, &other, sizeof(other)))
		die(how);
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	printf("flow %s %s %d: %" PRIu64 " MiB, hash %016" PRIx64 "%s, %" PRIu64
		" errors, %u retransmitted, %" PRIu64 " ms\n", how, address, mss, mib, mine.hash,
		mine.hash == other.hash ? "" : " differs", mine.errors + other.errors,
		info.tcpi_total_retrans, now_ms() - begin);
}

static void
udp(const char *address, uint64_t mib)
{
	uint64_t all = (mib << 20) / (DATAGRAM * 8), sent = 0, done = 0, errors = 0, lost = 0;
	uint64_t begin = now_ms(), words[DATAGRAM], got;
	int fd = connect_to(address, SOCK_DGRAM, 0);

	while (done < all) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		for (; sent < all && sent - done < WINDOW; sent++) {
			make_datagram(words, sent);
			if (write(fd, words, sizeof(words)) < 0)
				die("udp");
		}
		if (poll(&p, 1, TIMEOUT_MS) == 0) {
			lost += sent - done;
			done = sent;
		} else if (read(fd, &got, sizeof(got)) == sizeof(got)) {
			errors += got != done; /* wrong, or not in order */
			done++;
		}
	}
	printf("flow udp %s 1400: %" PRIu64 " MiB, hash %016" PRIx64 ", %" PRIu64
		" errors, %" PRIu64 " retransmitted, %" PRIu64 " ms\n", address, mib, all, errors,
		lost, now_ms() - begin);
}

int
main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 2 && strcmp(argv[1], "serve") == 0)
		serve();
	if (argc < 4)
		return EXIT_FAILURE;
	if (strcmp(argv[1], "udp") == 0)
		udp(argv[2], (uint64_t)atoll(argv[3]));
	else
		tcp(argv[1], argv[2], (uint64_t)atoll(argv[3]), argc > 4 ? atoi(argv[4]) : 0);
	return EXIT_SUCCESS;
}
