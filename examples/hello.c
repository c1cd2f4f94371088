/* SPDX-License-Identifier: MIT */
#include <green.h>
#include <stdio.h>

static green_t *producer, *consumer;

static void *produce(void *answer)
{
    for (char item = 'a'; item <= 'c' && answer != GREEN_FAILED; item++) {
        printf("Produced: %c\n", item);
        answer = green_switch(consumer, &item); /* back here for the next one */
    }
    return answer;
}

static void *consume(void *item)
{
    while (item != GREEN_FAILED) {
        printf("Consumed: %c\n", *(char *)item);
        item = green_switch(producer, NULL); /* and here, with that one */
    }
    return NULL;
}

int main(void)
{
    producer = green_new(produce, NULL);
    consumer = green_new(consume, NULL);
    if (!producer || !consumer || green_switch(producer, NULL) == GREEN_FAILED)
        return perror("hello"), 1;
    return green_free(consumer) || green_free(producer);
}
