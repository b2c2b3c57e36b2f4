/* SPDX-License-Identifier: BSD-3-Clause */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_pdump.h>

#include "main.h"
#include "process/capture.h"

/* The action of librte_pdump's requests: PDUMP_MP in its rte_pdump.c. */
#define PDUMP_ACTION "mp_pdump"

/* Captures at once: a port has one at most, by one process or, received and sent apart, by two. */
#define CAPTURES_MAX (2 * RTE_MAX_ETHPORTS)

/* How a request of librte_pdump begins (struct pdump_request), the same from 20.02 to 24.11. */
struct request {
	uint16_t version;
	uint16_t operation;
	uint32_t flags; /* received frames, sent ones, or both */
	char device[RTE_DEV_NAME_MAX_LEN];
	uint16_t queue;
};

enum { DISABLE = 1, ENABLE = 2 };

/* A request to capture that was granted, and the socket of the process that made it. */
struct capture {
	bool used;
	struct rte_mp_msg message;
	char peer[sizeof(((struct sockaddr_un *)0)->sun_path)];
};

/* Of the file, since EAL calls back without an argument. */
static struct {
	pthread_mutex_t lock;
	rte_mp_t serve; /* librte_pdump's own action */
	struct capture captures[CAPTURES_MAX];
} state = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* EAL's sockets are datagram sockets: connecting to one whose process has died is refused. */
static bool
is_alive(const char *peer)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), ret;

	if (fd < 0)
		return true;
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", peer);
	ret = connect(fd, (struct sockaddr *)&un, sizeof(un));
	if (ret < 0)
		ret = -errno;
	close(fd);
	return ret != -ECONNREFUSED && ret != -ENOENT;
}

/* The answer goes to nobody, which EAL takes for a peer that has just gone. */
static void
end_capture(struct capture *c)
{
	struct request r;

	memcpy(&r, c->message.param, sizeof(r));
	r.operation = DISABLE;
	memcpy(c->message.param, &r, sizeof(r));
	RTE_LOG(INFO, CONFIG, "capture at %.*s ended: the process that captured has gone\n",
		(int)sizeof(r.device), r.device);
	state.serve(&c->message, c->peer);
	c->used = false;
}

static void
end_dead(void)
{
	unsigned int i;

	for (i = 0; i < CAPTURES_MAX; i++) {
		if (state.captures[i].used && !is_alive(state.captures[i].peer))
			end_capture(&state.captures[i]);
	}
}

static bool
is_same(const struct capture *c, const struct request *r)
{
	struct request old;

	memcpy(&old, c->message.param, sizeof(old));
	return c->used && old.queue == r->queue && (old.flags & r->flags) != 0 &&
		strncmp(old.device, r->device, sizeof(old.device)) == 0;
}

static void
remember(const struct rte_mp_msg *message, const char *peer)
{
	struct capture *c = NULL;
	unsigned int i;

	for (i = 0; i < CAPTURES_MAX && c == NULL; i++) {
		if (!state.captures[i].used)
			c = &state.captures[i];
	}
	if (c == NULL)
		return;
	c->message = *message;
	c->message.num_fds = 0;
	snprintf(c->peer, sizeof(c->peer), "%s", peer);
	c->used = true;
}

static void
forget(const struct request *r)
{
	unsigned int i;

	for (i = 0; i < CAPTURES_MAX; i++) {
		if (is_same(&state.captures[i], r))
			state.captures[i].used = false;
	}
}

static bool
is_known(const struct request *r)
{
	unsigned int i;

	for (i = 0; i < CAPTURES_MAX; i++) {
		if (is_same(&state.captures[i], r))
			return true;
	}
	return false;
}

/* In the place of librte_pdump's action, in EAL's thread for messages. */
static int
serve(const struct rte_mp_msg *message, const void *peer)
{
	struct request r;
	int ret;

	if ((size_t)message->len_param < sizeof(r))
		return state.serve(message, peer);
	memcpy(&r, message->param, sizeof(r));
	pthread_mutex_lock(&state.lock);
	end_dead();
	/* The port has a capture already: librte_pdump refuses this one, and nothing changes. */
	if (r.operation == ENABLE && !is_known(&r))
		remember(message, peer);
	else if (r.operation == DISABLE)
		forget(&r);
	ret = state.serve(message, peer);
	pthread_mutex_unlock(&state.lock);
	return ret;
}

/*
 * librte_pdump tells EAL alone what its action is, by this function: the program's own definition
 * of it goes before EAL's (ELF symbol interposition), puts serve() between, and hands all else on.
 */
int
rte_mp_action_register(const char *name, rte_mp_t action)
{
	int (*of_eal)(const char *, rte_mp_t);

	*(void **)&of_eal = dlsym(RTLD_NEXT, "rte_mp_action_register");
	if (of_eal == NULL) {
		rte_errno = ENOTSUP;
		return -1;
	}
	if (strcmp(name, PDUMP_ACTION) == 0) {
		state.serve = action;
		action = serve;
	}
	return of_eal(name, action);
}

int
capture_open(void)
{
	return rte_pdump_init() < 0 ? -rte_errno : 0;
}

void
capture_watch(void)
{
	pthread_mutex_lock(&state.lock);
	end_dead();
	pthread_mutex_unlock(&state.lock);
}

void
capture_close(void)
{
	rte_pdump_uninit();
}
