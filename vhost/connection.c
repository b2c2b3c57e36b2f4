/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/sockios.h>

#include <rte_common.h>

#include "vhost/connection.h"
#include "vhost/relay.h"

/* Memory for replies that lie unread. All replies that a device's set-up needs take less. */
#define UNREAD_MAX 65536

/* How long a front end that does not say SET_OWNER may stay (QEMU and virtio_user do at once). */
#define GREETING_MS 10000

/*
 * How long closing an unknown descriptor may take before the front end that sent it is hung up on.
 */
#define CLOSING_MS 1000

/* The table. Of the file, since librte_vhost calls back with no more than a vid. */
static struct {
	struct connection place[CONNECTION_PLACES];
	struct connections_shared shared;
} table;

struct connection *
connection_at(unsigned int i)
{
	return &table.place[i];
}

struct connections_shared *
connections_shared(void)
{
	return &table.shared;
}

static void
log_refused(struct connection *c, const char *why)
{
	if (!c->logged)
		RTE_LOG(ERR, DATA, "front end at %s: message %u refused: %s\n", c->socket->path,
			c->message.request, why);
	c->logged = true;
}

static void front_ready(struct poll_source *source);
static void back_ready(struct poll_source *source);

static struct connection *
find_place(void)
{
	unsigned int i;

	for (i = 0; i < CONNECTION_PLACES; i++) {
		if (table.place[i].state == CONNECTION_FREE)
			return &table.place[i];
	}
	return NULL;
}

bool
connection_has_place(void)
{
	return find_place() != NULL;
}

void
connection_create(int fd, struct vhost_socket *s)
{
	struct connection *c = find_place();
	int on = 1;

	memset(c, 0, offsetof(struct connection, files));
	c->front = (struct poll_source){ fd, front_ready };
	c->back = (struct poll_source){ -1, back_ready };
	c->socket = s;
	c->vid = -1;
	c->since_ms = relay_now_ms();
	c->fds_known = true;
	c->state = CONNECTION_READS;
	s->nb_open++;
	__atomic_fetch_add(&s->nb_places, 1, __ATOMIC_RELAXED);
	table.shared.nb_open += s->port == NULL;
	/* Data out of band would be dropped, with its descriptors, by whoever reads past it. */
	setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	if (relay_watch(&c->front, true) < 0)
		connection_end(c);
}

static void
close_batch(struct fds_batch *batch)
{
	batch->closing = true;
	fds_close_elsewhere(batch, relay_wake_fd());
}

/* Whether descriptors of a connection are being closed. */
static bool
is_closing(const struct connection *c)
{
	return c->arrived.closing || c->dropped.closing;
}

/* Close descriptors of the message in hand: here where that is sure to be quick. */
static void
drop_fds(struct connection *c)
{
	int i;

	if (c->fds_known) {
		for (i = 0; i < c->nb_fds; i++)
			close(c->fds[i]);
	} else if (c->nb_fds > 0) {
		memcpy(c->dropped.fd, c->fds, sizeof(c->fds));
		c->dropped.n = c->nb_fds;
		close_batch(&c->dropped);
	}
	c->nb_fds = 0;
	c->fds_known = true;
}

/* Read on, when what came with it so far is closed. */
static void
next_part(struct connection *c)
{
	if (is_closing(c)) {
		c->state = CONNECTION_AWAITS_CLOSING;
		c->stuck_ms = relay_now_ms();
	} else {
		c->state = CONNECTION_READS;
		relay_rearm(&c->front);
	}
}

static void
next_message(struct connection *c)
{
	memset(&c->message, 0, sizeof(c->message));
	c->have = 0;
	next_part(c);
}

/* Returns false when the connection has ended by this. */
static bool
reply(struct connection *c, const void *data, size_t len)
{
	if (send(c->front.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len)
		return true;
	if (errno == EAGAIN)
		log_refused(c, "replies are not read");
	connection_end(c);
	return false;
}

/* Say what became of a message that has no reply of its own. */
static bool
acknowledge(struct connection *c, bool failed)
{
	struct vhost_user_message m = { .request = c->message.request,
		.flags = VHOST_USER_VERSION | VHOST_USER_REPLY, .size = sizeof(m.payload.u64),
		.payload.u64 = failed };

	if (c->message.flags & VHOST_USER_NEED_REPLY)
		return reply(c, &m, VHOST_USER_HEADER + m.size);
	if (failed)
		connection_end(c);
	return !failed;
}

/* Refuse what cannot be answered any more. */
static void
break_off(struct connection *c, const char *why)
{
	log_refused(c, why);
	connection_end(c);
}

static void
refuse(struct connection *c, const char *why)
{
	log_refused(c, why);
	drop_fds(c);
	if (acknowledge(c, true))
		next_message(c);
}

/* Pass a message on to librte_vhost. KICK goes without its descriptor: rings are polled. */
static void
send_back(struct connection *c, struct vhost_user_message *m, const int *fds, int nb_fds)
{
	m->flags = VHOST_USER_VERSION | VHOST_USER_NEED_REPLY;
	c->state = CONNECTION_AWAITS_REPLY;
	if (fds_send(c->back.fd, m, VHOST_USER_HEADER + m->size, fds, nb_fds, MSG_DONTWAIT) < 0)
		break_off(c, "the message cannot be passed on to librte_vhost");
}

/* RESET_OWNER: all rings are disabled, one after another. */
static void
disable_next(struct connection *c)
{
	uint32_t ring = ring_set_first(&c->negotiated.enabled);
	struct vhost_user_message m = { .request = VHOST_USER_SET_VRING_ENABLE,
		.size = sizeof(m.payload.state), .payload.state = { .index = ring, .num = 0 } };

	c->disabling = ring < RINGS_MAX;
	if (c->disabling) {
		ring_set_put(&c->negotiated.enabled, ring, false);
		send_back(c, &m, NULL, 0);
	} else if (acknowledge(c, false)) {
		next_message(c);
	}
}

static void
pass_on(struct connection *c)
{
	struct vhost_user_message m = c->message;
	int nb_fds = c->nb_fds;

	if (m.request == VHOST_USER_SET_VRING_KICK) {
		m.payload.u64 |= VHOST_USER_NO_FD;
		nb_fds = 0;
	}
	if (m.request == VHOST_USER_SET_MEM_TABLE)
		memory_expect_table(&c->files, c->fds, c->nb_fds);
	else if (m.request == VHOST_USER_SET_LOG_BASE)
		memory_expect_log(&c->files, c->fds[0]);
	send_back(c, &m, c->fds, nb_fds);
	drop_fds(c);
}

static void
handle_message(struct connection *c)
{
	const char *why = check_message(c);

	c->last_request = c->message.request;
	if (why != NULL) {
		refuse(c, why);
		return;
	}
	switch (c->message.request) {
	case VHOST_USER_SET_VRING_ERR: /* nothing is ever written to these */
	case VHOST_USER_SET_LOG_FD:
		drop_fds(c);
		if (acknowledge(c, false))
			next_message(c);
		break;
	case VHOST_USER_RESET_OWNER: /* librte_vhost's own forgets memory that it allocated */
		disable_next(c);
		break;
	default:
		if (c->has_device != DEVICE_NONE) {
			pass_on(c);
			break;
		}
		c->state = CONNECTION_AWAITS_DEVICE;
		relay_need_device(c);
	}
}

/* References to descriptors of a later message: they will come again. */
static void
put_back(struct connection *c)
{
	bool known = true;
	int i;

	for (i = 0; i < c->arrived.n; i++)
		known &= fds_kind(c->arrived.fd[i]) != FDS_OTHER;
	if (!known) {
		close_batch(&c->arrived);
		return;
	}
	for (i = 0; i < c->arrived.n; i++)
		close(c->arrived.fd[i]);
}

/*
 * Descriptors belong to the first bytes of a message. Those that came in excess or too late, or
 * without numbers of their own, end the connection. n is what fds_receive() returned.
 */
static bool
take_fds(struct connection *c, ssize_t n)
{
	int i;

	if (c->arrived.n == 0)
		return true;
	if (n > 0 && c->have == 0) {
		for (i = 0; i < c->arrived.n; i++) {
			c->fds[i] = c->arrived.fd[i];
			c->fds_known &= fds_kind(c->fds[i]) != FDS_OTHER;
			if (relay_is_reserved(c->fds[i]))
				n = -EMFILE;
		}
		c->nb_fds = c->arrived.n;
		if (n > 0)
			return true;
	} else {
		close_batch(&c->arrived);
	}
	break_off(c, n == -EMFILE ? "no file descriptors are left for it"
		: n == -EMSGSIZE ? "unexpected number of descriptors"
				 : "descriptors arrived in the middle of the message");
	return false;
}

/*
 * Read some more of the message in hand. Returns false when there is no more now, or never will be.
 */
static bool
read_some(struct connection *c)
{
	size_t payload = c->have < VHOST_USER_HEADER ? 0 : c->message.size;
	size_t want = VHOST_USER_HEADER + payload - c->have;
	const char *why;
	bool belong;
	ssize_t n;

	if (is_closing(c)) { /* one of those in the queue is being closed */
		next_part(c);
		return false;
	}
	n = fds_receive(c->front.fd, (uint8_t *)&c->message + c->have, want, &c->arrived, &belong);
	if (!belong)
		put_back(c);
	else if (!take_fds(c, n))
		return false;
	if (n == -EAGAIN) {
		relay_rearm(&c->front);
		return false;
	}
	if (n <= 0) {
		connection_end(c);
		return false;
	}
	c->have += (size_t)n;
	if (c->have == VHOST_USER_HEADER && (why = check_header(&c->message)) != NULL) {
		break_off(c, why);
		return false;
	}
	return true;
}

static bool
is_complete(const struct connection *c)
{
	return c->have >= VHOST_USER_HEADER && c->have == VHOST_USER_HEADER + c->message.size;
}

static void
front_ready(struct poll_source *source)
{
	struct connection *c = container_of(source, struct connection, front);
	int unread = 0;

	if (c->state != CONNECTION_READS)
		return;
	while (!is_complete(c)) {
		if (!read_some(c))
			return;
	}
	if (is_closing(c)) {
		next_part(c);
		return;
	}
	if (ioctl(c->front.fd, SIOCOUTQ, &unread) == 0 && unread > UNREAD_MAX)
		break_off(c, "replies are not read");
	else
		handle_message(c);
}

/* librte_vhost has dealt with the message in hand. */
static void
finish(struct connection *c, struct vhost_user_message *answer, size_t len)
{
	uint32_t request = c->message.request;
	/* SET_LOG_BASE is answered without a payload. */
	bool own = check_has_reply(request) &&
		(request != VHOST_USER_SET_LOG_BASE || answer->size == 0);

	if (!own && answer->payload.u64 != 0) {
		c->failed = true;
		c->disabling = false;
		log_refused(c, "librte_vhost failed to carry it out");
		if (acknowledge(c, true))
			next_message(c);
		return;
	}
	if (c->disabling) {
		disable_next(c);
		return;
	}
	check_done(c);
	if (request == VHOST_USER_GET_FEATURES)
		answer->payload.u64 &= ~c->socket->not_offered;
	if (own ? reply(c, answer, len) : acknowledge(c, false))
		next_message(c);
}

static void
back_ready(struct poll_source *source)
{
	struct connection *c = container_of(source, struct connection, back);
	struct vhost_user_message answer = { 0 };
	ssize_t n;

	if (c->back.fd < 0)
		return;
	n = recv(c->back.fd, &answer, sizeof(answer), MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	if (c->state == CONNECTION_AWAITS_REPLY && n >= (ssize_t)VHOST_USER_HEADER &&
			n == (ssize_t)(VHOST_USER_HEADER + answer.size)) {
		finish(c, &answer, (size_t)n);
		return;
	}
	if (relay_give_up_device(c) && c->state != CONNECTION_ENDED)
		log_refused(c, "librte_vhost could not create a device");
	if (c->state == CONNECTION_ENDED)
		connection_advance(c);
	else
		connection_end(c);
}

static void
log_end(struct connection *c)
{
	if (c->last_request != 0 && !c->logged && !c->socket->internal &&
			!__atomic_load_n(&c->was_guest, __ATOMIC_ACQUIRE))
		RTE_LOG(WARNING, DATA, "front end at %s: left before its rings were ready, after "
			"message %u (does it need features that are not offered?)\n",
			c->socket->path, c->last_request);
}

void
connection_end(struct connection *c)
{
	if (c->state == CONNECTION_ENDED)
		return;
	log_end(c);
	drop_fds(c);
	shutdown(c->front.fd, SHUT_RDWR);
	c->state = CONNECTION_ENDED;
	c->socket->connected = false;
	c->socket->nb_open--;
	table.shared.nb_open -= c->socket->port == NULL;
	connection_advance(c);
}

static void
close_front(struct connection *c)
{
	if (c->front.fd < 0 || is_closing(c))
		return;
	if (fds_has_unread(c->front.fd)) {
		relay_forget(&c->front);
		c->arrived.fd[0] = c->front.fd;
		c->arrived.n = 1;
		close_batch(&c->arrived);
	} else {
		close(c->front.fd);
	}
	c->front.fd = -1;
}

static void
note_closed(struct fds_batch *batch)
{
	if (batch->closing && __atomic_load_n(&batch->done, __ATOMIC_ACQUIRE))
		batch->closing = false;
}

/* Descriptors are closed: go on, or let the place be free. */
void
connection_advance(struct connection *c)
{
	int device = __atomic_load_n(&c->has_device, __ATOMIC_ACQUIRE);

	note_closed(&c->arrived);
	note_closed(&c->dropped);
	switch (c->state) {
	case CONNECTION_AWAITS_DEVICE:
		if (device == DEVICE_THERE)
			pass_on(c);
		break;
	case CONNECTION_AWAITS_CLOSING:
		if (!is_closing(c)) {
			c->state = CONNECTION_READS;
			front_ready(&c->front);
		}
		break;
	case CONNECTION_ENDED:
		close_front(c);
		if (c->back.fd >= 0 && device != DEVICE_PENDING) {
			close(c->back.fd);
			c->back.fd = -1;
		}
		if (c->front.fd < 0 && c->back.fd < 0 && !is_closing(c) &&
				(device == DEVICE_NONE || device == DEVICE_GONE)) {
			check_forget(&c->negotiated);
			memory_forget(&c->files);
			c->state = CONNECTION_FREE;
			__atomic_fetch_sub(&c->socket->nb_places, 1, __ATOMIC_RELEASE);
		}
		break;
	default:
		break;
	}
}

void
connection_check_time(struct connection *c, uint64_t now_ms)
{
	if (c->state == CONNECTION_AWAITS_CLOSING && now_ms - c->stuck_ms > CLOSING_MS)
		break_off(c, "closing its descriptors takes too long");
	else if (c->state != CONNECTION_FREE && c->state != CONNECTION_ENDED && !c->greeted &&
			!c->socket->internal && now_ms - c->since_ms > GREETING_MS)
		connection_end(c);
}
