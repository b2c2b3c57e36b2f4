/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_vhost.h>

#include "main.h"
#include "process/process.h"
#include "thread.h"
#include "vhost/relay.h"

/* How often times are looked at, and connecting is tried again with --client. */
#define TICK_MS 1000

/* Connections that are accepted before others' messages have their turn. */
#define ACCEPT_BURST 16

/*
 * Descriptors that front ends must not use up: librte_vhost accepts connections and takes copies of
 * descriptors without looking, and the rest of the program opens files now and then.
 */
#define RESERVED_FDS 64

/* How long after such a line the next one may come. */
#define FULL_LOG_MS 60000

/* Of the file, since librte_vhost calls back with no more than a vid. */
static struct {
	struct vhost_socket *sockets;
	unsigned int nb_sockets;
	char back[sizeof("/proc/self/fd/") + 12]; /* the socket that librte_vhost serves */
	int epoll_fd;
	struct poll_source wake; /* readable when there is something to advance */
	bool stop; /* atomic */
	bool running, paused;
	uint64_t tick_ms, full_ms;
	pthread_t thread;

	pthread_mutex_t mutex; /* of what follows */
	pthread_cond_t called;
	void (*call)(void *arg); /* what another thread wants done, NULL: nothing */
	void *call_arg;
	struct connection *pending;
	struct connection *of_vid[RTE_MAX_VHOST_DEVICE];
} relay = { .epoll_fd = -1, .wake.fd = -1, .mutex = PTHREAD_MUTEX_INITIALIZER,
	.called = PTHREAD_COND_INITIALIZER };

uint64_t
relay_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int
relay_wake_fd(void)
{
	return relay.wake.fd;
}

static void
wake(void)
{
	uint64_t one = 1;
	ssize_t ignored = write(relay.wake.fd, &one, sizeof(one));

	RTE_SET_USED(ignored);
}

bool
relay_is_reserved(int fd)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
		(rlim_t)fd + RESERVED_FDS >= limit.rlim_cur;
}

int
relay_watch(struct poll_source *source, bool once)
{
	struct epoll_event e = { .events = once ? EPOLLIN | EPOLLONESHOT : EPOLLIN,
		.data.ptr = source };

	return epoll_ctl(relay.epoll_fd, EPOLL_CTL_ADD, source->fd, &e) < 0 ? -errno : 0;
}

void
relay_rearm(struct poll_source *source)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLONESHOT, .data.ptr = source };

	epoll_ctl(relay.epoll_fd, EPOLL_CTL_MOD, source->fd, &e);
}

void
relay_forget(struct poll_source *source)
{
	epoll_ctl(relay.epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
}

/* Devices. */

/* Returns whether it is the one that librte_vhost makes a device for next. */
static bool
become_pending(struct connection *c)
{
	bool first;

	pthread_mutex_lock(&relay.mutex);
	first = relay.pending == NULL;
	if (first) {
		relay.pending = c;
		__atomic_store_n(&c->has_device, DEVICE_PENDING, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&relay.mutex);
	return first;
}

bool
relay_give_up_device(struct connection *c)
{
	bool pending;

	pthread_mutex_lock(&relay.mutex);
	pending = relay.pending == c;
	if (pending) {
		relay.pending = NULL;
		__atomic_store_n(&c->has_device, DEVICE_GONE, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&relay.mutex);
	if (pending)
		wake();
	return pending;
}

void
relay_need_device(struct connection *c)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	if (!become_pending(c))
		return;
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", relay.back);
	c->back.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->back.fd >= 0 && relay_is_reserved(c->back.fd))
		errno = EMFILE;
	else if (c->back.fd >= 0 && connect(c->back.fd, (struct sockaddr *)&un, sizeof(un)) == 0 &&
			relay_watch(&c->back, false) == 0)
		return;
	if (!process_lacks_descriptors(errno))
		RTE_LOG(ERR, DATA, "front end at %s: cannot connect to librte_vhost: %s\n",
			c->socket->path, strerror(errno));
	relay_give_up_device(c);
	connection_end(c);
}

struct connection *
relay_claim(int vid, struct rte_rcu_qsbr *rcu)
{
	struct connection *c;

	pthread_mutex_lock(&relay.mutex);
	c = relay.pending;
	relay.pending = NULL;
	if (c != NULL) {
		relay.of_vid[vid] = c;
		c->vid = vid;
		device_open(&c->device, vid, c->socket->path, c->socket->port, rcu);
		__atomic_store_n(&c->has_device, DEVICE_THERE, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&relay.mutex);
	wake();
	return c;
}

void
relay_release(int vid)
{
	struct connection *c;

	pthread_mutex_lock(&relay.mutex);
	c = relay.of_vid[vid];
	relay.of_vid[vid] = NULL;
	if (c != NULL)
		__atomic_store_n(&c->has_device, DEVICE_GONE, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&relay.mutex);
	wake();
}

struct connection *
relay_find(int vid)
{
	struct connection *c;

	pthread_mutex_lock(&relay.mutex);
	c = relay.of_vid[vid];
	pthread_mutex_unlock(&relay.mutex);
	return c;
}

/* Coming. */

static void
log_full(uint64_t now_ms, const char *why)
{
	if (relay.full_ms != 0 && now_ms - relay.full_ms < FULL_LOG_MS)
		return;
	relay.full_ms = now_ms;
	RTE_LOG(ERR, DATA, "front ends have to wait until they can connect: %s\n", why);
}

/* Of those that have been no guest for long, the one that came first. */
static struct connection *
find_idle(uint64_t now_ms)
{
	struct connection *c, *oldest = NULL;
	unsigned int i;

	for (i = 0; i < CONNECTION_PLACES; i++) {
		c = connection_at(i);
		if (c->state == CONNECTION_FREE || c->state == CONNECTION_ENDED ||
				c->socket->internal || c->socket->client ||
				c->socket->port != NULL ||
				__atomic_load_n(&c->was_guest, __ATOMIC_ACQUIRE) ||
				now_ms - c->since_ms < CONNECTION_IDLE_MS)
			continue;
		if (oldest == NULL || c->since_ms < oldest->since_ms)
			oldest = c;
	}
	return oldest;
}

/* Whether one more front end can come by a socket. Logs when none can. */
static bool
has_room(const struct vhost_socket *s)
{
	uint64_t now_ms = relay_now_ms();
	struct connection *idle;
	int fd;

	if (s->port == NULL && connections_shared()->nb_open >= CONNECTION_MAX) {
		idle = find_idle(now_ms);
		if (idle == NULL) {
			log_full(now_ms, "256 are open");
			return false;
		}
		connection_end(idle);
	}
	if (!connection_has_place()) {
		log_full(now_ms, "others that have ended cannot be closed");
		return false;
	}
	/* The kernel gives out the lowest number that is free. */
	fd = fcntl(relay.epoll_fd, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0)
		close(fd);
	if (fd < 0 || relay_is_reserved(fd)) {
		process_lacks_descriptors(EMFILE);
		return false;
	}
	return true;
}

/*
 * Look at listening sockets, or not until the next tick. Those of named ports have their own place:
 * they go on unless one of them is out of descriptors.
 */
static void
set_paused(bool paused, bool named_too)
{
	struct epoll_event e = { .events = paused ? 0 : EPOLLIN };
	unsigned int i;

	relay.paused = paused;
	for (i = 0; i < relay.nb_sockets; i++) {
		struct vhost_socket *s = &relay.sockets[i];

		if (s->port != NULL && !named_too)
			continue;
		s->paused = paused;
		e.data.ptr = &s->listener;
		if (s->in_use && s->listener.fd >= 0)
			epoll_ctl(relay.epoll_fd, EPOLL_CTL_MOD, s->listener.fd, &e);
	}
}

/* End a port's connection if its front end has gone, which was not noticed yet. */
static void
end_if_gone(const struct vhost_socket *s)
{
	struct connection *c;
	struct pollfd p;
	unsigned int i;

	for (i = 0; i < CONNECTION_PLACES; i++) {
		c = connection_at(i);
		if (c->state == CONNECTION_FREE || c->state == CONNECTION_ENDED || c->socket != s)
			continue;
		p = (struct pollfd){ .fd = c->front.fd, .events = POLLRDHUP };
		if (poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP)))
			connection_end(c);
	}
}

/* A named port has one guest at a time. */
static void
refuse_second(struct vhost_socket *s, int fd)
{
	close(fd);
	__atomic_fetch_add(&s->nb_refused, 1, __ATOMIC_RELAXED);
	if (!s->refused_logged)
		RTE_LOG(WARNING, DATA, "%s: a second connection was refused: the port has one "
			"guest at a time\n", s->path);
	s->refused_logged = true;
}

static void
listener_ready(struct poll_source *source)
{
	struct vhost_socket *s = container_of(source, struct vhost_socket, listener);
	unsigned int i;
	int fd;

	/* What is ready may be older than relay_close_socket() in the same batch. */
	for (i = 0; i < ACCEPT_BURST && s->in_use && !s->paused; i++) {
		if (!has_room(s)) {
			set_paused(true, s->port != NULL);
			return;
		}
		fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0 && s->port != NULL && s->nb_open > 0)
			end_if_gone(s);
		if (fd >= 0 && s->port != NULL && s->nb_open > 0) {
			refuse_second(s, fd);
		} else if (fd >= 0) {
			connection_create(fd, s);
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != ECONNABORTED && errno != EINTR) {
			if (!process_lacks_descriptors(errno))
				log_full(relay_now_ms(), strerror(errno));
			set_paused(true, s->port != NULL);
		}
	}
}

static void
try_to_connect(struct vhost_socket *s, uint64_t now_ms)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd;

	s->next_try_ms = now_ms + TICK_MS;
	if (!has_room(s))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", s->path);
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
		close(fd);
		return;
	}
	s->connected = true;
	connection_create(fd, s);
}

/* The loop. */

static void
advance_all(void)
{
	struct connection *c;
	unsigned int i;

	for (i = 0; i < CONNECTION_PLACES; i++) {
		if (connection_at(i)->state != CONNECTION_FREE)
			connection_advance(connection_at(i));
	}
	/* One device at a time: the next one's turn. */
	for (i = 0; i < CONNECTION_PLACES; i++) {
		c = connection_at(i);
		if (c->state == CONNECTION_AWAITS_DEVICE && c->has_device == DEVICE_NONE)
			relay_need_device(c);
	}
}

static void
tick(uint64_t now_ms)
{
	unsigned int i;

	for (i = 0; i < CONNECTION_PLACES; i++)
		connection_check_time(connection_at(i), now_ms);
	if (relay.paused)
		set_paused(false, true);
}

static void
connect_clients(uint64_t now_ms)
{
	unsigned int i;

	for (i = 0; i < relay.nb_sockets; i++) {
		struct vhost_socket *s = &relay.sockets[i];

		if (s->in_use && s->client && !s->connected && now_ms >= s->next_try_ms)
			try_to_connect(s, now_ms);
	}
}

void
relay_open_socket(void *socket)
{
	struct vhost_socket *s = socket;

	s->in_use = true;
	s->listener.ready = listener_ready;
	if (s->listener.fd >= 0 && relay_watch(&s->listener, false) < 0)
		RTE_LOG(ERR, DATA, "%s: nobody can connect: %s\n", s->path, strerror(errno));
}

void
relay_close_socket(void *socket)
{
	struct vhost_socket *s = socket;
	unsigned int i;

	s->in_use = false;
	if (s->listener.fd >= 0)
		relay_forget(&s->listener);
	for (i = 0; i < CONNECTION_PLACES; i++) {
		struct connection *c = connection_at(i);

		if (c->state != CONNECTION_FREE && c->socket == s) {
			c->logged = true; /* it is not the front end that ends it */
			connection_end(c);
		}
	}
}

void
relay_call(void (*call)(void *arg), void *arg)
{
	if (!relay.running) {
		call(arg);
		return;
	}
	pthread_mutex_lock(&relay.mutex);
	relay.call = call;
	relay.call_arg = arg;
	wake();
	while (relay.call != NULL)
		pthread_cond_wait(&relay.called, &relay.mutex);
	pthread_mutex_unlock(&relay.mutex);
}

/* What another thread wants done. It waits, so what it asks for stays as it is. */
static void
answer_call(void)
{
	void (*call)(void *arg);

	pthread_mutex_lock(&relay.mutex);
	call = relay.call;
	pthread_mutex_unlock(&relay.mutex);
	if (call == NULL)
		return;
	call(relay.call_arg);
	pthread_mutex_lock(&relay.mutex);
	relay.call = NULL;
	pthread_cond_signal(&relay.called);
	pthread_mutex_unlock(&relay.mutex);
}

/* A device came or went, descriptors were closed, or another thread wants something. */
static void
wake_ready(struct poll_source *source)
{
	uint64_t count;

	if (read(source->fd, &count, sizeof(count)) != sizeof(count))
		return;
	answer_call();
	advance_all();
}

static void *
run(void *arg)
{
	struct epoll_event events[32];
	uint64_t now_ms;
	int i, n;

	while (!__atomic_load_n(&relay.stop, __ATOMIC_ACQUIRE)) {
		n = epoll_wait(relay.epoll_fd, events, RTE_DIM(events), TICK_MS);
		for (i = 0; i < n; i++) {
			struct poll_source *source = events[i].data.ptr;

			source->ready(source);
		}
		now_ms = relay_now_ms();
		if (now_ms >= relay.tick_ms) {
			relay.tick_ms = now_ms + TICK_MS;
			tick(now_ms);
		}
		connect_clients(now_ms);
	}
	return arg;
}

int
relay_start(struct vhost_socket *sockets, unsigned int n, int back)
{
	unsigned int i;
	int ret;

	relay.sockets = sockets;
	relay.nb_sockets = n;
	snprintf(relay.back, sizeof(relay.back), "/proc/self/fd/%d", back);
	relay.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	/* Never closed: threads that close descriptors may write to it at any time. */
	relay.wake.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (relay.epoll_fd < 0 || relay.wake.fd < 0)
		return -errno;
	relay.wake.ready = wake_ready;
	ret = relay_watch(&relay.wake, false);
	for (i = 0; i < n; i++) {
		if (sockets[i].path != NULL)
			relay_open_socket(&sockets[i]);
	}
	if (ret == 0)
		ret = -start_control_thread(&relay.thread, "relay", run, NULL);
	relay.running = ret == 0;
	return ret;
}

void
relay_stop(void)
{
	__atomic_store_n(&relay.stop, true, __ATOMIC_RELEASE);
	if (!relay.running)
		return;
	wake();
	pthread_join(relay.thread, NULL);
	relay.running = false;
}

void
relay_close(void)
{
	struct connection *c;
	unsigned int i;

	for (i = 0; i < CONNECTION_PLACES; i++) {
		c = connection_at(i);
		if (c->state == CONNECTION_FREE)
			continue;
		__atomic_store_n(&c->has_device, DEVICE_GONE, __ATOMIC_RELEASE);
		c->logged = true;
		connection_end(c);
	}
	if (relay.epoll_fd >= 0)
		close(relay.epoll_fd);
	relay.epoll_fd = -1;
}
